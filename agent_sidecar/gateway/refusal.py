"""How the gateway says no: in the shape the provider's own errors have, so that every agent understands it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from claude_conductor.errors import (
    BudgetExhaustedError,
    ConductorError,
    ControlPlaneUnavailableError,
    PayloadTooLargeError,
    ProviderUnavailableError,
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of the gateway's own. Kinds and codes: the provider's documentation, page `API errors`."""

    status: int
    kind: str
    message: str
    headers: tuple[tuple[str, str], ...] = ()

    def body(self) -> bytes:
        """Return the JSON text."""
        return json.dumps({"type": "error", "error": {"type": self.kind, "message": self.message}}).encode()


NO_PROXY = Refusal(400, "invalid_request_error", "The model gateway is no proxy: ask for a path such as /v1/messages.")
NO_KEY = Refusal(
    401,
    "authentication_error",
    "Conductor has no key for the model provider. Set ANTHROPIC_API_KEY in the environment of `conductor start`, "
    "not in the task's, and start it again.",
    (("x-should-retry", "false"),),
)
TOO_MANY = Refusal(
    529,
    "overloaded_error",
    "This agent has too many model requests under way at once; repeat in a second.",
    (("retry-after", "1"),),
)


def limited(seconds: float) -> Refusal:
    """Refuse while the provider takes no requests for so many seconds: longer than a request is held here."""
    return Refusal(
        429,
        "rate_limit_error",
        f"The model provider takes no requests with this key for {seconds:.0f} s.",
        (("retry-after", str(math.ceil(seconds))),),
    )


def over_budget(error: BudgetExhaustedError) -> Refusal:
    """Refuse what the task's budget has no room for: to the agent, what a provider says whose customer has not paid."""
    return Refusal(402, "billing_error", f"{error.message} {error.next_step}", (("x-should-retry", "false"),))


def closed_path(path: str) -> Refusal:
    """Refuse a path that is not open to agents."""
    return Refusal(404, "not_found_error", f"The model gateway does not lead to {path[:200]}.")


def too_large(limit: int) -> Refusal:
    """Refuse a request over the limit in bytes."""
    return Refusal(413, "request_too_large", f"The request is larger than the {limit} bytes the model gateway takes.")


def refusal_for(error: ConductorError, *, limit: int) -> Refusal:
    """Return the answer to an exchange that failed before its answer began.

    Args:
        error: What failed.
        limit: The limit of a request in bytes, to name it.
    """
    if isinstance(error, PayloadTooLargeError):
        return too_large(limit)
    if isinstance(error, BudgetExhaustedError):
        return over_budget(error)
    if isinstance(error, ControlPlaneUnavailableError):
        return Refusal(529, "overloaded_error", str(error), (("retry-after", "5"),))
    if not isinstance(error, ProviderUnavailableError):
        return Refusal(400, "invalid_request_error", str(error))
    if isinstance(error.__cause__, TimeoutError):
        return Refusal(504, "timeout_error", f"{error}; {error.next_step}")
    return Refusal(502, "api_error", f"{error}; {error.next_step}")
