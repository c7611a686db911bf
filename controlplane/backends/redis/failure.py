"""What an error of Redis, or of the way to it, means to whoever called the store."""

from __future__ import annotations

from typing import Final

from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import TimeoutError as AnswerTimeoutError

from claude_conductor.errors import StoreUnavailableError

_REPEAT: Final = "then repeat with the same key"
_KINDS: Final[tuple[tuple[type[RedisError], str, str], ...]] = (
    (BusyLoadingError, "Redis reads its data after a start.", f"wait until it is done; {_REPEAT}"),
    (
        NoPermissionError,
        "The user of Redis may not do what the store does.",
        "give it the rights that docs/deploy/redis.md lists (ACL SETUSER)",
    ),
    (AuthenticationWrongNumberOfArgsError, "Redis does not know users.", "write the URL without a user name"),
    (AuthenticationError, "Redis refuses the user name or the password.", "correct them in the URL of the store"),
    (OutOfMemoryError, "The memory of Redis is full; nothing was stored.", f"raise its maxmemory; {_REPEAT}"),
    (
        ReadOnlyError,
        "The server is a replica and takes no writes; nothing was stored.",
        "name the master in the URL of the store",
    ),
    (
        AnswerTimeoutError,
        "Redis did not answer in time; nobody knows whether it was stored.",
        f"see whether it is overloaded; {_REPEAT}",
    ),
)
_TEXTS: Final = (
    ("MISCONF", "Redis cannot write to its disk; nothing was stored.", f"free space there and look at its log; {_REPEAT}"),
    ("NOAUTH", "Redis wants a password.", "write it into the URL of the store, or name a password_file"),
    ("NOREPLICAS", "Redis has too few replicas to take writes; nothing was stored.", f"bring them back; {_REPEAT}"),
    ("BUSY ", "A script keeps Redis busy; nothing was stored.", f"end it with SCRIPT KILL; {_REPEAT}"),
    ("CLUSTERDOWN", "The Redis Cluster does not serve every slot; nothing was stored.", f"repair it; {_REPEAT}"),
    ("DB index", "Redis has no database of this number.", "name another in the URL of the store"),
)


def unavailable(cause: BaseException, address: object) -> StoreUnavailableError:
    """Return what to raise from `cause`."""
    for kind, message, next_step in _KINDS:
        if isinstance(cause, kind):
            return StoreUnavailableError(message, next_step=next_step, address=address)
    text = str(cause)
    for beginning, message, next_step in _TEXTS:
        if beginning in text:
            return StoreUnavailableError(message, next_step=next_step, address=address)
    if isinstance(cause, OSError | ConnectionError) or type(cause).__name__ == "ConnectionError":
        return StoreUnavailableError(
            f"Redis cannot be reached, or the connection broke: {text.rstrip('.')}.",
            next_step=f"see that it runs and that the address is right; {_REPEAT}",
            address=address,
        )
    return StoreUnavailableError(f"Redis refused: {text.rstrip('.')}.", address=address)
