"""Between our errors and google.rpc.Status: the only place where a kind meets a gRPC status code."""

from __future__ import annotations

import math
from typing import Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from claude_conductor import errors
from claude_conductor.errors import ConductorError, Kind

DOMAIN: Final = "conductor.local"
DETAILS_KEY: Final = "grpc-status-details-bin"

CODES: Final = {
    Kind.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Kind.ALREADY_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Kind.FAILED_PRECONDITION: grpc.StatusCode.FAILED_PRECONDITION,
    Kind.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Kind.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Kind.RESOURCE_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Kind.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    Kind.INTERNAL: grpc.StatusCode.INTERNAL,
}

_BY_REASON: Final = {error.reason: error for error in reversed(errors.ALL)}
_BY_CODE: Final = {code: kind for kind, code in CODES.items()}
_PLAIN: Final = {
    grpc.StatusCode.UNAVAILABLE: errors.ControlPlaneUnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceededError,
    grpc.StatusCode.UNAUTHENTICATED: errors.UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDeniedError,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgumentError,
}
RETRY_AFTER: Final = {"MAILBOX_FULL": 1.0, "RATE_LIMITED": 1.0, "STORE_UNAVAILABLE": 1.0, "STORE_UNREACHABLE": 1.0}
"""Seconds that RetryInfo tells a client to wait, for the reasons a repeat may help with; an error may know it better."""


def retry_after(error: ConductorError) -> float | None:
    """Return how many seconds to wait before a repeat may help; None when it will not."""
    return error.retry_after if error.retry_after is not None else RETRY_AFTER.get(error.reason)


def to_proto(error: ConductorError) -> status_pb2.Status:
    """Return the status that carries everything the error knows."""
    code = code_pb2.Code.Value(CODES[error.kind].name)
    info = error_details_pb2.ErrorInfo(
        reason=error.reason, domain=DOMAIN, metadata={**error.details, "next_step": error.next_step}
    )
    details = [_packed(info)]
    if (seconds := retry_after(error)) is not None:
        pause = duration_pb2.Duration()
        pause.FromMicroseconds(math.ceil(seconds * 1e6))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=pause)))
    return status_pb2.Status(code=code, message=error.message, details=details)


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


async def abort(context: grpc.aio.ServicerContext[object, object], error: ConductorError) -> None:
    """End the call with the error. Never returns: `context.abort` raises."""
    status = to_proto(error)
    await context.abort(CODES[error.kind], error.message, ((DETAILS_KEY, status.SerializeToString()),))


def from_reason(reason: str, message: str, next_step: str = "", **details: str) -> ConductorError:
    """Return the error class of a reason with this message; a reason of a newer peer becomes a plain ConductorError."""
    return _BY_REASON.get(reason, ConductorError)(message, next_step=next_step, **details)


def from_call(call: grpc.aio.AioRpcError) -> ConductorError:
    """Return our error for a failed call; chain it with `raise ... from`."""
    code, message = call.code(), call.details() or ""
    for entry in tuple(call.trailing_metadata() or ()):
        if entry[0] == DETAILS_KEY:
            status = status_pb2.Status.FromString(entry[1])
            for detail in status.details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info) and info.domain == DOMAIN:
                    facts = {name: fact for name, fact in info.metadata.items() if name != "next_step"}
                    error = from_reason(info.reason, status.message, info.metadata.get("next_step", ""), **facts)
                    return error.after(_pause_in(status))
    plain = _PLAIN.get(code)
    return (
        plain(**({"cause": message} if message else {})) if plain else ConductorError(f"The call failed: {code.name} {message}")
    )


def _pause_in(status: status_pb2.Status) -> float | None:
    for detail in status.details:
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(retry):
            return float(retry.retry_delay.ToMicroseconds()) / 1e6
    return None
