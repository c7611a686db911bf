"""How does a call end that no servicer ever sees?"""

from __future__ import annotations

import grpc

Code = grpc.StatusCode


class CallRefusedError(Exception):
    """The transport itself ends the call with this status."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


class NotGrpcError(Exception):
    """It is a request of HTTP, but no call of gRPC; an HTTP status answers it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status
