"""Whatever is done to a chain is found, at its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from claude_conductor.audit_chain import FIRST, Flaw, Head, Record, first_flaw, linked, signed_text
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.identity import signing

KEY, OTHER = signing.new_key(), signing.new_key()


def chain(count: int) -> list[Record]:
    records: list[Record] = []
    for number in range(1, count + 1):
        before = records[-1].hash if records else FIRST
        records.append(linked(Record(number, 1.5 * number, "default", "operator", "SubmitTask", "ok", f"task_{number}"), before))
    return records


def head(records: list[Record], number: int, key: bytes = KEY) -> Head:
    digest = records[number - 1].hash
    return Head(number, digest, 2.25, signing.sign(key, signed_text(number, digest, 2.25)))


def flaw(records: list[Record], *heads: Head) -> Flaw | None:
    public = signing.public_of(KEY)
    return first_flaw(
        records, heads, lambda each: signing.verified(public, signed_text(each.number, each.hash, each.time), each.signature)
    )


def test_a_chain_that_was_left_alone_is_whole():
    records = chain(9)
    assert flaw(records) is None
    assert flaw(records, head(records, 5), head(records, 9)) is None
    assert flaw([]) is None


@pytest.mark.parametrize("field", [name for name in Record.__slots__ if name not in ("number", "hash")])
@pytest.mark.parametrize("place", [1, 5, 9])
def test_any_edit_is_found_at_its_place(field: str, place: int):
    records = chain(9)
    value = records[place - 1].time + 1 if field == "time" else "x"
    records[place - 1] = replace(records[place - 1], **{field: value})
    found = flaw(records, head(chain(9), 9))
    assert found is not None
    assert found.number == place


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda records: [*records[:3], *records[4:]], 4),
        (lambda records: records[1:], 1),
        (lambda records: [*records[:3], records[4], records[3], *records[5:]], 4),
        (lambda records: [*records[:3], records[2], *records[3:]], 4),
        (lambda records: records[:6], 7),
        (lambda records: [], 1),
    ],
    ids=["dropped", "first dropped", "reordered", "doubled", "tail cut", "everything gone"],
)
def test_what_is_dropped_moved_added_or_cut_is_found_at_its_place(change: Callable[[list[Record]], list[Record]], place: int):
    records = chain(9)
    found = flaw(change(list(records)), head(records, 9))
    assert found is not None
    assert found.number == place


def test_who_links_everything_anew_is_found_by_the_signatures():
    records = chain(9)
    stated = [head(records, 4), head(records, 9)]
    forged = chain(3)
    for record in [replace(records[3], actor="somebody else"), *records[4:]]:
        forged.append(linked(record, forged[-1].hash))
    assert flaw(forged) is None  # the hashes alone do not tell
    found = flaw(forged, *stated)
    assert found is not None
    assert found.number == 4
    signed_by_another = flaw(forged, head(forged, 9, OTHER))
    assert signed_by_another is not None
    assert "signature" in signed_by_another.why


def test_keys_that_are_none_are_refused():
    for bad in (b"", b"rubbish", signing.public_of(KEY)):
        with pytest.raises(InvalidArgumentError):
            signing.sign(bad, b"")
    with pytest.raises(InvalidArgumentError):
        signing.verified(KEY, b"", "")
    assert not signing.verified(signing.public_of(KEY), b"text", "no hex")
