"""Where the messages of one frame stand, told in runs of neighbours that share one history.

A frame that nobody touched is one run, and stays so while receipts are cumulative, so a frame of 512 messages costs a store
hardly more than a frame of one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from controlplane.domain.message import Receipt, State
from controlplane.interfaces.mailbox_store import MOST_HOPS, dead_reason, shown

_LETTERS = {
    State.ACCEPTED: "a",
    State.AT_SIDECAR: "t",
    State.SEEN: "s",
    State.ACKED: "k",
    State.EXPIRED: "x",
    State.BOUNCED: "b",
    State.DEAD: "d",
}
_STATES = {letter: state for state, letter in _LETTERS.items()}


@dataclass(frozen=True, slots=True)
class Span:
    """Messages of a frame with one history. `first` and `last` are indexes in the frame, both inclusive."""

    first: int
    last: int
    hops: tuple[tuple[State, int], ...]
    """(state, milliseconds since the epoch), the present state last."""
    attempts: int = 0
    reason: str = ""
    last_error: str = ""
    gone: bool = False
    """Removed, or sent again as a message of another frame: a place in the mailbox that shows nothing."""

    @property
    def state(self) -> State:
        """Where they stand."""
        return self.hops[-1][0]

    @property
    def count(self) -> int:
        """How many messages they are."""
        return self.last - self.first + 1

    def moved(self, state: State, reason: str, now_ms: int) -> Span:
        """Return them in their next state."""
        return replace(self, hops=(*self.hops, (state, now_ms)), reason=reason)


def fresh(count: int, accept_ms: int) -> tuple[Span, ...]:
    """Return the spans of a frame that was just accepted."""
    return (Span(0, count - 1, ((State.ACCEPTED, accept_ms),)),)


Update = Callable[[Span], Span]
"""Says what becomes of a span that is not final; returns it unchanged (the same object) where nothing does."""


def change(spans: Sequence[Span], first: int, last: int, update: Update) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Apply `update` to what is not final between two indexes.

    Returns:
        The new spans of the whole frame, and those of the pieces that changed, before neighbours that became alike were joined.
    """
    pieces: list[Span] = []
    changed: list[Span] = []
    for span in spans:
        if span.state.final or span.last < first or span.first > last:
            pieces.append(span)
            continue
        middle = replace(span, first=max(span.first, first), last=min(span.last, last))
        after = update(middle)
        if after is middle:
            pieces.append(span)
            continue
        if span.first < middle.first:
            pieces.append(replace(span, last=middle.first - 1))
        pieces.append(after)
        changed.append(after)
        if middle.last < span.last:
            pieces.append(replace(span, first=middle.last + 1))
    return _joined(pieces), tuple(changed)


def _joined(pieces: Sequence[Span]) -> tuple[Span, ...]:
    joined = [pieces[0]]
    for piece in pieces[1:]:
        before = joined[-1]
        if replace(before, first=piece.first, last=piece.last) == piece:
            joined[-1] = replace(before, last=piece.last)
        else:
            joined.append(piece)
    return tuple(joined)


def received(receipt: Receipt, now_ms: int) -> Update:
    """Return the update a receipt means: forward only, and attempts never fewer."""

    def update(span: Span) -> Span:
        attempts = shown(receipt, span.attempts)
        if receipt.state.rank > span.state.rank:
            after = span.moved(receipt.state, receipt.reason, now_ms)
            return replace(after, attempts=attempts, last_error=receipt.last_error)
        if attempts == span.attempts:
            return span
        again = receipt.state is span.state and len(span.hops) < MOST_HOPS
        return replace(span.moved(span.state, span.reason, now_ms) if again else span, attempts=attempts)

    return update


def given_up(allowed: int, last_error: str, now_ms: int) -> Update:
    """Return the update that ends what was shown to as many agent processes as allowed."""

    def update(span: Span) -> Span:
        if span.attempts < allowed:
            return span
        return replace(span.moved(State.DEAD, dead_reason(span.attempts), now_ms), last_error=last_error)

    return update


def ended(state: State, reason: str, now_ms: int) -> Update:
    """Return the update that ends whatever has not ended."""
    return lambda span: span.moved(state, reason, now_ms)


def letters_of(states: frozenset[State]) -> list[str]:
    """Return how the text of spans shows that one of them is in such a state: a part of it that nothing else has."""
    return [f'{_LETTERS[state]}",[' for state in states]


def open_count(spans: Sequence[Span]) -> int:
    """Return how many messages are not final."""
    return sum(span.count for span in spans if not span.state.final)


def retired(spans: Sequence[Span], index: int) -> tuple[Span, ...]:
    """Return the spans with one message gone."""
    pieces: list[Span] = []
    for span in spans:
        if not span.first <= index <= span.last:
            pieces.append(span)
            continue
        if span.first < index:
            pieces.append(replace(span, last=index - 1))
        pieces.append(replace(span, first=index, last=index, gone=True))
        if index < span.last:
            pieces.append(replace(span, first=index + 1))
    return _joined(pieces)


def to_text(spans: Sequence[Span]) -> str:
    """Return the spans as compact JSON: [count, attempts, reason, letters of the states, times] each.

    Where there is something to say of them, the last error and whether they are gone follow.
    """
    return json.dumps(
        [
            [
                span.count,
                span.attempts,
                span.reason,
                "".join(_LETTERS[state] for state, _ in span.hops),
                [ms for _, ms in span.hops],
                *((span.last_error, int(span.gone)) if span.last_error or span.gone else ()),
            ]
            for span in spans
        ],
        separators=(",", ":"),
    )


def from_text(text: str) -> tuple[Span, ...]:
    """Return the spans `to_text` made the text of."""
    spans: list[Span] = []
    first = 0
    for count, attempts, reason, letters, times, *seldom in json.loads(text):
        hops = tuple((_STATES[letter], ms) for letter, ms in zip(letters, times, strict=True))
        last_error, gone = seldom or ("", 0)
        spans.append(Span(first, first + count - 1, hops, attempts, reason, last_error, bool(gone)))
        first += count
    return tuple(spans)
