"""How does AdminService answer?"""

from __future__ import annotations

import os
from typing import TypeAlias

import grpc

from claude_conductor import __version__
from claude_conductor.v1 import admin_service_pb2 as pb
from claude_conductor.v1.admin_service_pb2_grpc import AdminServiceServicer
from controlplane.api.convert.values import timestamp
from controlplane.service.registry import Registry
from controlplane.service.sessions import PROTOCOL_VERSION
from controlplane.service.tasks import Tasks

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class StatusServicer(AdminServiceServicer):
    """Serves AdminService."""

    def __init__(self, tasks: Tasks, registry: Registry, store_kind: str, start_time: float) -> None:
        self._tasks = tasks
        self._registry = registry
        self._store_kind = store_kind
        self._start_time = start_time

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:
        """Return what runs."""
        del request, context
        return pb.GetStatusResponse(
            version=__version__,
            protocol_version=PROTOCOL_VERSION,
            start_time=timestamp(self._start_time),
            store=self._store_kind,
            tasks=self._tasks.counts(),
            agents=self._registry.counts(),
            pid=os.getpid(),
        )
