"""How is a long listing read a page at a time?"""

from __future__ import annotations

import base64
import binascii

from claude_conductor.errors import InvalidArgumentError

DEFAULT_SIZE = 100
MAX_SIZE = 1000


def page_size(asked: int) -> int:
    """Return how many items a page has.

    Raises:
        InvalidArgumentError: It is below 0 or above 1000.
    """
    if not 0 <= asked <= MAX_SIZE:
        raise InvalidArgumentError(f"A page has 1 to {MAX_SIZE} items; 0 means {DEFAULT_SIZE}.", field="page_size", value=asked)
    return asked or DEFAULT_SIZE


def token_for(last: bytes) -> str:
    """Return the token of the page behind an item."""
    return base64.urlsafe_b64encode(last).decode()


def after_token(token: str) -> bytes:
    """Return the item a page begins behind; empty for the first page.

    Raises:
        InvalidArgumentError: It is no token of ours.
    """
    try:
        return base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as cause:
        raise InvalidArgumentError("This is not a page token.", field="page_token") from cause


def after_token_text(token: str) -> str:
    """Return the id a page begins behind; empty for the first page.

    Raises:
        InvalidArgumentError: It is no token of ours.
    """
    try:
        return after_token(token).decode()
    except UnicodeDecodeError as cause:
        raise InvalidArgumentError("This is not a page token.", field="page_token") from cause
