"""Where does a stream go on that broke off? Each item's SSE id is the cursor of its service, and comes back as Last-Event-ID."""

from __future__ import annotations

from typing import Any, Final

from claude_conductor.errors import InvalidArgumentError

_CURSORS: Final = {
    "EventService/WatchEvents": "after_cursor",
    "MessageService/ReceiveMessages": "after_position",
    "TaskService/ReadTaskOutput": "offset",
    "ArtefactService/ReadArtefact": "offset",
}
"""The field of each request that says where to begin. A stream that is not here begins with what is so now."""


def resume(method: str, request: Any, last_event_id: str) -> None:  # noqa: ANN401 - the method's request
    """Let the request begin behind the item with this id.

    Raises:
        InvalidArgumentError: It is no id of this stream.
    """
    if not last_event_id or method not in _CURSORS:
        return
    attempt, _, number = last_event_id.rpartition(":")
    try:
        setattr(request, _CURSORS[method], int(number))
        if attempt:
            request.attempt = int(attempt)
    except (ValueError, AttributeError) as cause:
        raise InvalidArgumentError(
            "Last-Event-ID is no place in this stream.",
            next_step="send it as it was received, or not at all",
            value=last_event_id,
        ) from cause


class Places:
    """Tells the id of each item of one stream."""

    def __init__(self, method: str, request: Any) -> None:  # noqa: ANN401 - the method's request
        self._method = method
        self._read = request.offset if method == "ArtefactService/ReadArtefact" else 0

    def of(self, item: Any) -> str:  # noqa: ANN401 - the method's response
        """Return the id of the next item; empty if the stream has none."""
        match self._method:
            case "EventService/WatchEvents":
                return str(item.event.cursor or item.gap.to)
            case "MessageService/ReceiveMessages":
                return str(item.cursor)
            case "TaskService/ReadTaskOutput":
                return f"{item.attempt}:{item.next_offset}"
            case "ArtefactService/ReadArtefact":
                self._read += len(item.data)
                return str(self._read)
            case _:
                return ""
