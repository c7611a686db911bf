"""What do the services need done with the inside of a frame, which they never open themselves?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from controlplane.domain.message import Record


@dataclass(frozen=True, slots=True)
class Notice:
    """A frame the control plane itself has written."""

    frame: bytes
    """A serialised MessageFrame."""
    message_ids: bytes


class Envelopes(Protocol):
    """Opens frames on the rare occasions when that is needed."""

    def keep(self, frame: bytes, indexes: Sequence[int]) -> bytes:
        """Return the frame with only these of its messages, in order."""

    def bounced(self, recipient: str, records: Sequence[Record], now_ms: int) -> Notice:
        """Return a frame of type `conductor.bounced` with a message for each record, which answers the original by id.

        The id of a notice follows from the record, so that a repeat is recognised.
        """
