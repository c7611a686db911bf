"""What a frame is that was read from Redis, and what becomes of its messages: decided here, applied by one script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controlplane.backends.spans import Span, Update, change, fresh, from_text, open_count, to_text
from controlplane.backends.told import records
from controlplane.domain.message import Record, State
from controlplane.domain.routing import CONDUCTOR


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame in the order of FACTS in shared_mail.lua."""

    number: int
    mailbox_name: str
    sender: str
    type: str
    first: int
    count: int
    size: int
    accept_ms: int
    expire_ms: int
    spans_text: str

    @classmethod
    def read(cls, facts: Sequence[bytes]) -> Frame:
        """Return the frame an answer begins with."""
        number, mailbox, sender, kind, first, count, size, accept, expire, spans = facts[:10]
        return cls(
            number=int(number),
            mailbox_name=mailbox.decode(),
            sender=sender.decode(),
            type=kind.decode(),
            first=int(first),
            count=int(count),
            size=int(size),
            accept_ms=int(accept),
            expire_ms=int(expire),
            spans_text=spans.decode(),
        )

    @property
    def spans(self) -> tuple[Span, ...]:
        """Where its messages stand."""
        return from_text(self.spans_text) if self.spans_text else fresh(self.count, self.accept_ms)

    def span_of(self, index: int) -> Span:
        """Return the span that has the message at this place of the frame."""
        return next(span for span in self.spans if span.first <= index <= span.last)


@dataclass(slots=True)
class Moves:
    """What becomes of the messages of some frames; each may be moved several times before it is written."""

    frames: Mapping[int, Frame]
    _now: dict[int, tuple[Span, ...]] = field(default_factory=dict)
    _ended: list[tuple[Frame, tuple[Span, ...]]] = field(default_factory=list)

    def move(self, frame: Frame, first: int, last: int, update: Update) -> None:
        """Apply the update to the messages of the frame between two positions that are not final."""
        spans, changed = change(self._now.get(frame.number) or frame.spans, first - frame.first, last - frame.first, update)
        if not changed:
            return
        self._now[frame.number] = spans
        ended = tuple(span for span in changed if span.state.final and span.state is not State.ACKED)
        if ended:
            self._ended.append((frame, ended))

    def written(self) -> str:
        """Return the changes as apply.lua wants them; empty if there is none."""
        wanted = {frame.number for frame, _ in self._ended}
        changes = [_written(self.frames[number], spans, wanted=number in wanted) for number, spans in self._now.items()]
        return json.dumps(changes, separators=(",", ":")) if changes else ""

    def records(self, ids: Sequence[bytes]) -> list[Record]:
        """Return the records of what ended without being acknowledged; `ids` is what apply.lua answered."""
        of_frame = dict(zip(self._now, ids, strict=True))
        return [record for frame, spans in self._ended for record in records(frame, spans, of_frame[frame.number])]


def _written(frame: Frame, spans: tuple[Span, ...], *, wanted: bool) -> list[Any]:
    before = frame.spans
    left = open_count(spans)
    old = {index for span in before if span.state.final for index in range(span.first, span.last + 1)} if wanted else set()
    debts = [
        [frame.first + index, span.hops[-1][1]]
        for span in spans
        if wanted and span.state is State.BOUNCED and frame.sender != CONDUCTOR
        for index in range(span.first, span.last + 1)
        if index not in old
    ]
    return [
        frame.number,
        frame.spans_text,
        to_text(spans),
        open_count(before) - left,
        left,
        max((span.last for span in spans if not span.state.final), default=0),
        0 if left else max(span.hops[-1][1] for span in spans),
        settled(spans),
        wanted,
        debts,
    ]


def settled(spans: Sequence[Span]) -> bool:
    """Tell whether nobody can ask any more what a frame said."""
    return all(span.gone or span.state is State.ACKED for span in spans)
