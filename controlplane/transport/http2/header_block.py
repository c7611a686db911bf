"""How do header blocks become headers, and headers blocks? RFC 7541, by the hpack library; RFC 9113, sections 4.3 and 6.10."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import hpack

from controlplane.transport.http2.codes import ErrorCode, PeerConnectionError

MOST_FRAMES: Final = 32
"""HEADERS and CONTINUATION frames of one block."""
WITHOUT_TABLE: Final = b"\x20"
"""What our first block on a connection begins with: a dynamic table of size 0 (RFC 7541, section 6.3)."""

Headers = Sequence[tuple[bytes, bytes]]


def encode(headers: Iterable[tuple[str, str]]) -> bytes:
    """Return a block that means the same on every connection: it neither uses nor changes the dynamic table.

    So blocks that are sent often are made once.
    """
    block: bytes = hpack.Encoder().encode([(name, value, True) for name, value in headers], huffman=False)
    return block


class BlockReader:
    """Puts together the blocks of one connection and decodes each, also those nobody is interested in: they change the table."""

    __slots__ = ("_block", "_decoder", "_frames", "_most", "end_stream", "stream_id")

    def __init__(self, most: int) -> None:
        """Begin with an empty table.

        Args:
            most: Bytes of one block, encoded, and of its headers, decoded.
        """
        self._most = most
        self._decoder = hpack.Decoder(most)
        self._block = bytearray()
        self._frames = 0
        self.stream_id = 0
        """Whose block is not whole yet; until it is, nothing else may come. 0: there is none."""
        self.end_stream = False

    def begin(self, stream_id: int, *, end_stream: bool) -> None:
        """Begin the block of a HEADERS frame."""
        self.stream_id = stream_id
        self.end_stream = end_stream
        self._frames = 0

    def add(self, fragment: bytes) -> None:
        """Add what one frame brought.

        Raises:
            PeerConnectionError: The block is too large or in too many pieces.
        """
        self._frames += 1
        self._block += fragment
        if len(self._block) > self._most or self._frames > MOST_FRAMES:
            raise PeerConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "a header block too large, or in too many pieces")

    def finish(self) -> Headers:
        """Return the headers of the block that is whole now.

        Raises:
            PeerConnectionError: It cannot be decoded, so no later one can either.
        """
        block = bytes(self._block)
        self._block.clear()
        self.stream_id = 0
        try:
            return [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except hpack.OversizedHeaderListError as cause:
            raise PeerConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "a header list that is too large") from cause
        except (hpack.HPACKError, IndexError, ValueError) as cause:
            raise PeerConnectionError(ErrorCode.COMPRESSION_ERROR, "a header block that cannot be decoded") from cause
