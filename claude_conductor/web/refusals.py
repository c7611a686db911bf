"""What does a failed call look like over HTTP? The status of gRPC as JSON, under the HTTP code that means the same."""

from __future__ import annotations

from typing import Any, Final

import grpc
from google.protobuf.json_format import MessageToDict
from google.rpc import code_pb2, error_details_pb2, status_pb2
from starlette.responses import JSONResponse

from claude_conductor.errors import ConductorError
from claude_conductor.rpc.status import DETAILS_KEY, to_proto

HTTP: Final = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
"""As google/rpc/code.proto maps them."""


def status_of(cause: grpc.aio.AioRpcError | ConductorError) -> status_pb2.Status:
    """Return everything that is known of a failure."""
    if isinstance(cause, ConductorError):
        return to_proto(cause)
    for key, value in tuple(cause.trailing_metadata() or ()):
        if key == DETAILS_KEY and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    return status_pb2.Status(code=cause.code().value[0], message=cause.details() or "")


def http_of(error: ConductorError) -> int:
    """Return the HTTP status of one of our errors."""
    return HTTP[code_pb2.Code.Name(to_proto(error).code)]


def plain(status: status_pb2.Status) -> dict[str, Any]:
    """Return the body: `{"error": {"code": ..., "status": ..., "message": ..., "details": [...]}}`."""
    name = code_pb2.Code.Name(status.code)
    details = [MessageToDict(detail) for detail in status.details]
    return {"error": {"code": HTTP.get(name, 500), "status": name, "message": status.message, "details": details}}


def answer(cause: grpc.aio.AioRpcError | ConductorError, http: int = 0) -> JSONResponse:
    """Return the failure as a response; `http` where HTTP has a more exact code than gRPC."""
    status = status_of(cause)
    body = plain(status)
    body["error"]["code"] = code = http or body["error"]["code"]
    headers = {"www-authenticate": "Bearer"} if code == HTTP["UNAUTHENTICATED"] else {}
    for detail in status.details:
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(retry):
            headers["retry-after"] = str(max(1, round(retry.retry_delay.ToMilliseconds() / 1000)))
    return JSONResponse(body, code, headers)
