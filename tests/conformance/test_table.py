"""The table says what it means: its words are known, and an answer that does not fit is found."""

from __future__ import annotations

import pytest

from tests.conformance.table import MismatchError, Names, cases

CALL = {"by", "call", "with", "gives", "fails", "deadline", "times", "eventually", "later", "stream", "until"}
WORDS = (CALL, {"do"}, {"end of"}, {"freeze", "seconds"})
ROLES = {"first", "second", "operator", "sidecar", "stranger", "nobody"}


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_every_step_uses_words_that_mean_something(case):
    assert any({"gives", "fails"} & set(step) for step in case.steps)
    assert case.roles <= ROLES
    for step in case.steps:
        assert any(set(step) <= words for words in WORDS), step
        assert not {"gives", "fails"} <= set(step), step


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {}),
        ({"a": None}, {"a": 1}),
        ({"a": "$known"}, {"a": "other"}),
        ({"a": "$new"}, {}),
        ({"a": "task/${known}"}, {"a": "task/other"}),
        ({"a": [1]}, {"a": [1, 2]}),
        ({"a": []}, {}),
        ({"a": {"$some": {"b": 1}}}, {"a": [{"b": 2}]}),
        ({"a": {"$some": {"b": 1}}}, {}),
        ({"a": {"b": 1}}, {"a": 1}),
        ({"data": {"$bytes": 2}}, {"data": "eHh4"}),
        ({"a": True}, {"a": False}),
    ],
)
def test_an_answer_that_does_not_fit_is_found(expected, actual):
    with pytest.raises(MismatchError):
        Names({"known": "value"}).fit(expected, actual)


def test_a_name_is_what_it_was_first():
    names = Names()
    names.fit({"a": "$x", "b": [{"c": "$x"}], "d": None}, {"a": "1", "b": [{"c": "1", "more": 2}]})
    names.fit({"a": {"$some": {"b": "$x", "c": "$y"}}}, {"a": [{"b": "2", "c": "no"}, {"b": "1", "c": "yes"}]})
    assert names.values == {"x": "1", "y": "yes"}
    assert names.fill({"to": "task/${x}", "id": "$y"}) == {"to": "task/1", "id": "yes"}
    assert names.fill("$fresh") == names.fill("$fresh")
    assert str(names.fill("$fresh")).startswith("msg_")
