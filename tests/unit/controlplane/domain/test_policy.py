"""Which rule decides, and what it says about it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.policy import Effect, Facts, Kind, Pattern, Policy, Relation, Rule, decide, relation_of

OPERATOR = Facts(Kind.OPERATOR, "operator")
WORKERS = Rule(
    "workers do not write to each other", Effect.DENY, Pattern(labels={"role": "worker"}), Pattern(labels={"role": "worker"})
)


def agent(name: str, **labels: str) -> Facts:
    return Facts(Kind.AGENT, name, labels)


def task(name: str, parent: str = "", submitter: str = "", **labels: str) -> Facts:
    return Facts(Kind.TASK, f"task_{name}", labels, f"task_{parent}" if parent else "", submitter)


def test_a_denial_names_its_rule_by_number_and_name():
    policy = Policy((Rule("reviewers answer", Effect.ALLOW, Pattern(id="reviewer")), WORKERS))

    decision = decide(policy, agent("a", role="worker"), agent("b", role="worker"), "note")

    assert not decision.allowed
    assert decision.reason == "denied by rule no. 2 'workers do not write to each other'"
    assert decide(policy, agent("a", role="worker"), agent("b", role="boss"), "note").allowed


def test_the_first_rule_that_fits_decides():
    allow = Rule("", Effect.ALLOW, Pattern(id="a"))
    deny = Rule("", Effect.DENY, Pattern(id="a"))

    assert decide(Policy((allow, deny)), agent("a"), agent("b"), "note").allowed
    assert decide(Policy((deny, allow)), agent("a"), agent("b"), "note").reason == "denied by rule no. 1"


def test_what_no_rule_fits_is_allowed_or_denied_as_the_policy_says():
    assert decide(Policy(), agent("a"), agent("b"), "note").allowed
    decision = decide(Policy((WORKERS,), Effect.DENY), agent("a"), agent("b"), "note")

    assert not decision.allowed
    assert decision.reason == "denied because no rule fits"


@pytest.mark.parametrize(
    ("sender", "receiver", "relation"),
    [
        (task("a"), task("a"), Relation.ITSELF),
        (task("a"), task("b", parent="a"), Relation.PARENT),
        (task("b", parent="a"), task("a"), Relation.CHILD),
        (task("b", parent="a"), task("c", parent="a"), Relation.SIBLING),
        (task("a"), task("b"), Relation.SIBLING),
        (task("b", parent="a"), task("d", parent="b"), Relation.PARENT),
        (task("a"), task("d", parent="b"), Relation.STRANGER),
        (task("d", parent="b"), task("c", parent="a"), Relation.STRANGER),
        (agent("boss"), task("a", parent="z", submitter="boss"), Relation.PARENT),
        (task("a", parent="z", submitter="boss"), agent("boss"), Relation.CHILD),
        (agent("other"), task("a", parent="z", submitter="boss"), Relation.STRANGER),
        (agent("a"), agent("b"), Relation.STRANGER),
        (OPERATOR, task("a"), Relation.STRANGER),
    ],
)
def test_what_the_sender_is_to_the_receiver(sender: Facts, receiver: Facts, relation: Relation):
    assert relation_of(sender, receiver) is relation


def test_without_rules_a_task_reaches_its_family_and_everybody_else_reaches_everybody():
    child, stranger = task("b", parent="a"), task("d", parent="c")
    family = [task("a"), task("e", parent="a"), task("f", parent="b"), child]

    assert all(decide(Policy(), child, each, "note").allowed and decide(Policy(), each, child, "note").allowed for each in family)
    refused = decide(Policy(), child, stranger, "note")
    assert not refused.allowed
    assert refused.reason == "denied by the default rule 'tasks write within their family'"
    for other in (agent("reviewer"), OPERATOR):
        assert decide(Policy(), child, other, "note").allowed
        assert decide(Policy(), other, child, "note").allowed


def test_a_rule_of_the_settings_comes_before_the_default_rules():
    opened = Policy((Rule("", Effect.ALLOW, Pattern(Kind.TASK), Pattern(Kind.TASK)),))
    closed = Policy((Rule("", Effect.DENY, Pattern(Kind.TASK), Pattern(Kind.TASK), (Relation.SIBLING,)),))

    assert decide(opened, task("b", parent="a"), task("d", parent="c"), "note").allowed
    assert not decide(closed, task("b", parent="a"), task("c", parent="a"), "note").allowed
    assert decide(closed, task("a"), task("c", parent="a"), "note").allowed


def test_types_and_ids_fit_as_a_whole_or_by_how_they_begin():
    policy = Policy((Rule("", Effect.DENY, Pattern(id="review*"), types=("review.*", "note")),))

    assert not decide(policy, agent("reviewer-2"), agent("b"), "review.done").allowed
    assert not decide(policy, agent("reviewer-2"), agent("b"), "note").allowed
    assert decide(policy, agent("reviewer-2"), agent("b"), "notes").allowed
    assert decide(policy, agent("reader"), agent("b"), "note").allowed


def test_a_label_that_is_not_there_fits_no_pattern():
    policy = Policy((Rule("", Effect.DENY, Pattern(labels={"role": "*"})),))

    assert decide(policy, agent("a"), agent("b"), "note").allowed
    assert not decide(policy, agent("a", role=""), agent("b"), "note").allowed


kinds = st.sampled_from([None, *Kind])
words = st.sampled_from(["a", "b", "c"])
labels = st.dictionaries(words, words, max_size=2)
patterns = st.builds(Pattern, kinds, st.sampled_from(["", "a", "b*"]), labels)
types = st.lists(words, max_size=2).map(tuple)
relations = st.lists(st.sampled_from(list(Relation)), max_size=2).map(tuple)
rules = st.builds(Rule, words, st.sampled_from(list(Effect)), patterns, patterns, relations, types)
policies = st.builds(Policy, st.lists(rules, max_size=5).map(tuple), st.sampled_from(list(Effect)))
parties = st.builds(Facts, st.sampled_from(list(Kind)), words, labels, st.sampled_from(["", "a"]))


@given(policies, parties, parties)
def test_somebody_may_be_written_to_if_and_only_if_a_message_of_some_type_may_go(policy: Policy, one: Facts, other: Facts):
    every_type = ["a", "b", "c", "none of the rules names this"]

    assert decide(policy, one, other, None).allowed == any(decide(policy, one, other, kind).allowed for kind in every_type)
