"""What is a chain of audit records, and which record of one is not what was written? Nothing is read or signed here.

Each record has the SHA-256 of its own content and of the record before, so none can be changed, dropped, added or moved without
every later hash being another. A signed head says which hash a number has: who cannot sign can neither write a new chain nor cut
the tail of one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace

FIRST = "0" * 64
"""What stands for the hash before the first record."""


@dataclass(frozen=True, slots=True)
class Record:
    """Something that was decided or changed."""

    number: int
    """From 1, without gaps."""
    time: float
    """Seconds since the epoch."""
    tenant: str
    actor: str
    """Who: `operator`, `token_...`, `agent/ID`, or empty where nobody knows."""
    action: str
    """A method, or `join.refused` and the like."""
    outcome: str
    """`ok`, or the reason of the error."""
    target: str = ""
    """What it was done to."""
    hash: str = ""
    """Of everything above and of the hash before."""


@dataclass(frozen=True, slots=True)
class Head:
    """A signed statement: this record has this hash."""

    number: int
    hash: str
    time: float
    signature: str
    """Hexadecimal, of `signed_text`."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """Where a chain is not what was written, and how that shows."""

    number: int
    why: str


def linked(record: Record, before: str) -> Record:
    """Return the record with its hash."""
    content = {**asdict(record), "hash": before}
    return replace(record, hash=hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest())


def signed_text(number: int, digest: str, time: float) -> bytes:
    """Return what the signature of a head is over."""
    return f"conductor audit head {number} {digest} {time!r}".encode()


def first_flaw(records: Iterable[Record], heads: Sequence[Head], signed: Callable[[Head], bool]) -> Flaw | None:
    """Return the first record that is not what was written; None: all of them are, from the first one to the newest head.

    Args:
        records: In the order they are in.
        heads: In any order.
        signed: Tells whether a head's signature is good.
    """
    for head in heads:
        if not signed(head):
            return Flaw(head.number, "the signature of its head is not good")
    stated = {head.number: head.hash for head in heads}
    before, number = FIRST, 0
    for record in records:
        number += 1
        if record.number != number:
            return Flaw(number, "it is missing, or another one is in its place")
        if linked(record, before).hash != record.hash:
            return Flaw(number, "its content, or that of the one before, was changed")
        if stated.get(number, record.hash) != record.hash:
            return Flaw(number, "a signed head says that it was another one")
        before = record.hash
    newest = max(stated, default=0)
    return Flaw(number + 1, f"the chain ends before it, and a signed head names record {newest}") if newest > number else None
