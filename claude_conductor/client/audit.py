"""How is the audit chain read and checked?"""

from __future__ import annotations

from dataclasses import dataclass

from claude_conductor.audit_chain import Head, Record
from claude_conductor.client.call import Caller
from claude_conductor.v1 import audit_service_pb2 as pb
from claude_conductor.v1 import audit_service_pb2_grpc

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Chain:
    """A whole chain, and what it is checked by."""

    records: tuple[Record, ...]
    heads: tuple[Head, ...]
    public_key: str


class Audit:
    """The audit chain of a control plane."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._stub = audit_service_pb2_grpc.AuditServiceStub(caller.channel)

    async def records(self) -> list[Record]:
        """Return every record, in order."""
        found: list[Record] = []
        token = ""
        while True:
            request = pb.ListAuditRecordsRequest(page_size=_PAGE, page_token=token)
            answer = await self._caller.unary(self._stub.ListAuditRecords, request)
            found += [
                Record(each.number, each.time, each.tenant, each.actor, each.action, each.outcome, each.target, each.hash)
                for each in answer.records
            ]
            token = answer.next_page_token
            if not token:
                return found

    async def chain(self) -> Chain:
        """Return the whole chain, its newest record signed: the heads first, so that the records reach them all."""
        stated = await self._caller.unary(self._stub.GetAuditHeads, pb.GetAuditHeadsRequest())
        heads = tuple(Head(each.number, each.hash, each.time, each.signature) for each in stated.heads)
        return Chain(tuple(await self.records()), heads, stated.public_key_pem)
