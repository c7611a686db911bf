"""Which methods can be called over HTTP? Those of the descriptors, so a new one is there by itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import claude_conductor.v1

PACKAGE: Final = "claude_conductor.v1"
NOT_OVER_HTTP: Final = frozenset({"SessionService", "LocalService", "EnrolmentService"})
"""Those of sidecars and of agents, which have nothing to do with people."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method that takes one message, and answers with one or with a stream."""

    descriptor: MethodDescriptor
    request: type[Message]
    response: type[Message]

    @property
    def short(self) -> str:
        """Such as `TaskService/ListTasks`."""
        return f"{self.descriptor.containing_service.name}/{self.descriptor.name}"

    @property
    def full(self) -> str:
        """The path of gRPC, with its leading slash."""
        return f"/{PACKAGE}.{self.short}"

    @property
    def streams(self) -> bool:
        """Whether it answers with a stream."""
        return bool(self.descriptor.server_streaming)


def methods() -> dict[str, Method]:
    """Return every method by `Service/Method`. One that takes a stream is not among them: HTTP has no word for it."""
    return {method.short: method for method in sorted(_all(), key=lambda method: method.short)}


def _all() -> Iterator[Method]:
    for module in pkgutil.iter_modules(claude_conductor.v1.__path__):
        if not module.name.endswith("_service_pb2"):
            continue
        file = importlib.import_module(f"{PACKAGE}.{module.name}").DESCRIPTOR
        for name, service in file.services_by_name.items():
            for method in service.methods if name not in NOT_OVER_HTTP else ():
                if not method.client_streaming:
                    yield Method(method, GetMessageClass(method.input_type), GetMessageClass(method.output_type))
