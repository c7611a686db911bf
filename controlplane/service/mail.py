"""How do stored messages reach the sidecar that owns their mailbox, in order and no faster than it takes them?"""

from __future__ import annotations

import asyncio
import logging

from claude_conductor.clock import Clock
from claude_conductor.errors import StoreUnavailableError
from controlplane.domain.message import IncomingFrame, StoredFrame
from controlplane.interfaces.mailbox_store import MailboxStore
from controlplane.service.link import Link
from controlplane.service.live import Live
from controlplane.service.meter import Meter
from controlplane.service.news import MessageNews
from controlplane.service.pulse import Pulse, wait
from controlplane.service.work import Work

_log = logging.getLogger(__name__)
_READ_BYTES = 256 << 10
_STORE_PAUSE = 0.5
_IDLE_WAIT = 3600.0
_FARTHEST = 1 << 53
"""No mailbox gets that far; whoever claims it is mistaken, and must not bring positions to their end."""


class _Feed:
    """The deliveries of one mailbox to its present owner."""

    def __init__(self, mailbox: str, link: Link, after_position: int, last_error: str) -> None:
        self.mailbox = mailbox
        self.link = link
        self.after_position = after_position
        self.last_error = last_error
        """How the agent process before ended; empty if nobody knows."""
        self.cursor = after_position
        """Everything up to here was handed to the link, or is final."""
        self.behind = True
        """There may be more in the store; False means that everything was handed over."""
        self.news = asyncio.Event()
        self.closed = False


class Mail:
    """Feeds mailboxes to their owners. A mailbox has at most one owner at a time."""

    def __init__(self, store: MailboxStore, clock: Clock, work: Work, news: MessageNews, meter: Meter | None = None) -> None:
        """Begin with no owners.

        Args:
            store: Where messages wait.
            clock: For time stamps and expiry.
            work: Runs a feed each.
            news: Told of messages that were delivered too often.
            meter: Told how long messages took; None if nobody asks.
        """
        self._store = store
        self._clock = clock
        self._work = work
        self._news = news
        self._meter = meter
        self._feeds: dict[str, _Feed] = {}
        self._by_link: dict[int, set[_Feed]] = {}
        self.arrived = Pulse()
        """Beats with the mailbox's name when something was stored in it."""
        self.live = Live()
        """Who receives a mailbox that no sidecar owns."""

    async def follow(self, mailbox: str, position: int) -> None:
        """Let the mailbox go on behind what its owner has, whose journal may know more than a store that was lost.

        Raises:
            StoreUnavailableError: Nothing changed.
        """
        if await self._store.end(mailbox) < position <= _FARTHEST:
            _log.warning("a sidecar knows more of its mailbox than the store", extra={"mailbox": mailbox, "position": position})
            await self._store.advance(mailbox, position)

    def open(self, mailbox: str, link: Link, after_position: int, last_error: str = "") -> None:
        """Deliver the mailbox to this link from now on, beginning after a position; an older owner gets no more.

        `last_error` says how the agent process before ended, for the records of messages that die with it.
        """
        self.close(mailbox)
        feed = self._feeds[mailbox] = _Feed(mailbox, link, after_position, last_error)
        self._by_link.setdefault(id(link), set()).add(feed)
        self._work.start(self._run(feed), name=f"mail {mailbox}")

    def close(self, mailbox: str) -> None:
        """Deliver the mailbox to nobody."""
        feed = self._feeds.pop(mailbox, None)
        if feed is not None:
            feed.closed = True
            feed.news.set()
            of_link = self._by_link[id(feed.link)]
            of_link.discard(feed)
            if not of_link:
                del self._by_link[id(feed.link)]

    def close_link(self, link: Link) -> None:
        """Deliver nothing to this link any more."""
        for mailbox in [feed.mailbox for feed in self._by_link.get(id(link), ())]:
            self.close(mailbox)

    def owner(self, mailbox: str) -> Link | None:
        """Return who the mailbox is delivered to."""
        feed = self._feeds.get(mailbox)
        return feed.link if feed is not None else None

    def link_has_room(self, link: Link) -> None:
        """Go on with what waits for this link."""
        for feed in self._by_link.get(id(link), ()):
            if feed.behind:
                feed.news.set()

    def stored(self, frame: IncomingFrame, first_position: int) -> None:
        """A frame was stored: hand it over at once if nothing stands before it, else let the feed fetch it in its turn."""
        self.arrived.beat(frame.mailbox)
        feed = self._feeds.get(frame.mailbox)
        if feed is None or first_position <= feed.cursor:
            return
        if feed.behind or feed.cursor != first_position - 1 or feed.link.room <= 0:
            feed.behind = True
        else:
            self._hand(feed, frame.first_shown(first_position), "live")
        feed.news.set()

    def look(self, mailbox: str) -> None:
        """Look whether something was stored that nobody told of."""
        self.arrived.beat(mailbox)
        feed = self._feeds.get(mailbox)
        if feed is not None:
            feed.behind = True
            feed.news.set()

    def _hand(self, feed: _Feed, frame: StoredFrame, path: str = "waited") -> None:
        if self._meter is not None:
            self._meter.relay.observe(self._clock.now() - frame.accept_time_ms / 1000, path)
        feed.link.deliver(frame, feed.after_position)
        feed.cursor = frame.last_position

    async def _run(self, feed: _Feed) -> None:
        while not feed.closed:
            feed.news.clear()
            if not await self._step(feed) and not feed.closed:
                await wait(feed.news, _IDLE_WAIT)

    async def _step(self, feed: _Feed) -> bool:
        """Deliver what can be; return whether there may be more to do at once."""
        if feed.closed or not feed.behind or feed.link.room <= 0:
            return False
        try:
            await self._fetch(feed)
        except StoreUnavailableError as error:
            _log.warning("deliveries wait for the store", extra={"mailbox": feed.mailbox, "cause": str(error)})
            await asyncio.sleep(_STORE_PAUSE)
        return True

    async def _fetch(self, feed: _Feed) -> None:
        feed.behind = False  # what is stored from here on sets it again
        try:
            frames = await self._store.read(feed.mailbox, feed.cursor, min(feed.link.room, _READ_BYTES))
        except StoreUnavailableError:
            feed.behind = True
            raise
        feed.behind = feed.behind or bool(frames)
        for frame in frames:
            if feed.closed or feed.link.room <= 0:
                return
            if frame.last_position <= feed.cursor:
                continue  # handed over while the store was read
            if 0 < frame.expire_time_ms <= self._now_ms():
                feed.cursor = frame.last_position
            elif frame.attempt == 1:
                self._hand(feed, frame)
            else:
                await self._redeliver(feed, frame)

    async def _redeliver(self, feed: _Feed, frame: StoredFrame) -> None:
        """Deliver again what an agent process was shown before, unless it was too often: so what kills agents is caught."""
        first, last = frame.first_position, frame.last_position
        dead = await self._store.give_up(feed.mailbox, first, last, feed.last_error, self._now_ms())
        if dead:
            self._news.tell("message.dead", dead)
            frame = frame._replace(settled=frame.settled | {record.position for record in dead})
        if len(frame.settled) > last - first:
            feed.cursor = last
        elif not feed.closed:
            self._hand(feed, frame)

    def _now_ms(self) -> int:
        return int(self._clock.now() * 1000)
