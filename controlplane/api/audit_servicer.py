"""How does AuditService answer?"""

from __future__ import annotations

from typing import TypeAlias

import grpc

from claude_conductor.audit_chain import Head, Record
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.v1 import audit_service_pb2 as pb
from claude_conductor.v1.audit_service_pb2_grpc import AuditServiceServicer
from controlplane.api.guard.caller import check_runs_conductor
from controlplane.api.paging import after_token_text, page_size, token_for
from controlplane.identity.signer import Signer
from controlplane.interfaces.audit_store import AuditStore
from controlplane.service.audit import Audit

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class ChainServicer(AuditServiceServicer):
    """Serves AuditService."""

    def __init__(self, audit: Audit, store: AuditStore, signer: Signer) -> None:
        self._audit = audit
        self._store = store
        self._signer = signer

    async def ListAuditRecords(self, request: pb.ListAuditRecordsRequest, context: Context) -> pb.ListAuditRecordsResponse:
        """Return a page of records."""
        del context
        check_runs_conductor()
        size, after = page_size(request.page_size), after_token_text(request.page_token)
        if after and not after.isdecimal():
            raise InvalidArgumentError("This is not a page token.", field="page_token")
        records = await self._store.read(int(after or 0), size + 1)
        more = token_for(str(records[size - 1].number).encode()) if len(records) > size else ""
        return pb.ListAuditRecordsResponse(records=[_record(each) for each in records[:size]], next_page_token=more)

    async def GetAuditHeads(self, request: pb.GetAuditHeadsRequest, context: Context) -> pb.GetAuditHeadsResponse:
        """Sign the newest record, and return every head."""
        del request, context
        check_runs_conductor()
        await self._audit.state()
        heads = [_head(each) for each in await self._store.heads()]
        return pb.GetAuditHeadsResponse(heads=heads, public_key_pem=(await self._signer.public()).decode())


def _record(record: Record) -> pb.AuditRecord:
    return pb.AuditRecord(
        number=record.number,
        time=record.time,
        tenant=record.tenant,
        actor=record.actor,
        action=record.action,
        outcome=record.outcome,
        target=record.target,
        hash=record.hash,
    )


def _head(head: Head) -> pb.AuditHead:
    return pb.AuditHead(number=head.number, hash=head.hash, time=head.time, signature=head.signature)
