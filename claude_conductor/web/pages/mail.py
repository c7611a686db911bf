"""Where did messages go, which ones died, and what is done about these? And who waits for an answer?"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_conductor.errors import InvalidArgumentError
from claude_conductor.v1 import message_pb2
from claude_conductor.web import words
from claude_conductor.web.pages.page import Desk, Form, Pages, back

MOST: Final = 200
FILTERS: Final = {
    "all": (),
    "under way": ("accepted", "at_sidecar", "seen"),
    "acknowledged": ("acked",),
    "dead": ("dead",),
    "undelivered": ("expired", "bounced", "dead"),
}


class MailPages:
    """Messages, one message, dead letters, and the inbox."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def routes(self) -> list[Route]:
        """Return what is served."""
        return [
            self._pages.show("/inbox", self._inbox),
            self._pages.show("/messages", self._list),
            self._pages.act("/messages/letters", self._letters),
            self._pages.show("/messages/{message_id}", self._message),
        ]

    async def _inbox(self, request: Request, desk: Desk) -> Response:
        waiting = await desk.asking()
        return self._pages.write(request, "inbox.html", {"waiting": waiting, "asking": len(waiting)})

    async def _list(self, request: Request, desk: Desk) -> Response:
        chosen, mailbox = request.query_params.get("state", "all"), request.query_params.get("mailbox", "").strip()
        if chosen not in FILTERS:
            raise InvalidArgumentError("There is no such filter.", next_step=f"choose {', '.join(FILTERS)}", state=chosen[:40])
        states = [message_pb2.MessageState.ValueType(words.number_of(name, "message")) for name in FILTERS[chosen]]
        records = await desk.messages.list(recipient=mailbox, states=states, limit=MOST)
        facts = {"records": records, "chosen": chosen, "filters": list(FILTERS), "mailbox": mailbox, "most": MOST}
        return self._pages.write(request, "messages.html", {**facts, "asking": len(await desk.asking())})

    async def _message(self, request: Request, desk: Desk) -> Response:
        records = await desk.messages.get(request.path_params["message_id"])
        return self._pages.write(request, "message.html", {"records": records, "asking": len(await desk.asking())})

    async def _letters(self, request: Request, desk: Desk, form: Form) -> Response:
        """Send the chosen dead letters again, or remove them."""
        chosen = form.all("message_id")
        if not chosen:
            raise InvalidArgumentError("No message was chosen.", next_step="tick at least one")
        act = {"redrive": desk.messages.redrive, "purge": desk.messages.purge}.get(form.get("do"))
        if act is None:
            raise InvalidArgumentError("Dead letters are sent again or removed.")
        outcomes = await act(chosen)
        refused = [outcome for outcome in outcomes if outcome.reason]
        if not refused:
            return back("/messages?state=dead")
        return self._pages.write(request, "letters.html", {"outcomes": outcomes, "asking": len(await desk.asking())})
