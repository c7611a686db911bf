"""What an error of Redis, or of the way to it, means to whoever called the store."""

from __future__ import annotations

from collections.abc import Iterator
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
from redis.exceptions import ConnectionError as UnreachableError
from redis.exceptions import TimeoutError as AnswerTimeoutError

from claude_conductor.errors import StoreUnavailableError, StoreUnreachableError

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
    ("Authentication required", "Redis wants a password.", "name a file with it in the URL of the store: ?password_file=/path"),
    ("NOREPLICAS", "Redis has too few replicas to take writes; nothing was stored.", f"bring them back; {_REPEAT}"),
    ("BUSY ", "A script keeps Redis busy; nothing was stored.", f"end it with SCRIPT KILL; {_REPEAT}"),
    ("CLUSTERDOWN", "The Redis Cluster does not serve every slot; nothing was stored.", f"repair it; {_REPEAT}"),
    ("DB index", "Redis has no database of this number.", "name another in the URL of the store"),
)


def lasting(cause: BaseException | None) -> bool:
    """Tell whether the same will happen until somebody changes something at the server or in the settings."""
    kinds = (AuthenticationError, AuthenticationWrongNumberOfArgsError, NoPermissionError)
    words = ("DB index", "CERTIFICATE", "SSL")
    return any(isinstance(each, kinds) or any(word in str(each) for word in words) for each in _chain(cause))


def unavailable(cause: BaseException, address: object, *, sent: bool) -> StoreUnavailableError:
    """Return what to raise from `cause`; `sent`: the server may have got the call."""
    for each in _chain(cause):
        for words, message, next_step in _TEXTS:
            if words in str(each):
                return StoreUnavailableError(message, next_step=next_step, address=address)
        for kind, message, next_step in _KINDS:
            if isinstance(each, kind):
                return StoreUnavailableError(message, next_step=next_step, address=address)
    text = str(cause).rstrip(".")
    if not sent:
        return StoreUnreachableError(f"Redis cannot be reached: {text}.", address=address)
    if isinstance(cause, OSError | UnreachableError):
        message = f"The connection to Redis broke: {text}; nobody knows whether it was stored."
        return StoreUnavailableError(message, next_step=f"see that it runs; {_REPEAT}", address=address)
    return StoreUnavailableError(f"Redis refused: {text}.", address=address)


def _chain(cause: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it came from: the library wraps what a server says while it connects."""
    while cause is not None:
        yield cause
        cause = cause.__cause__
