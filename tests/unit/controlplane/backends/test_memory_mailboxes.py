"""What the memory store costs."""

from __future__ import annotations

import time

from controlplane.backends.memory.mailbox_store import MemoryMailboxStore
from controlplane.domain.message import Receipt, State
from controlplane.domain.routing import MAX_MESSAGES
from controlplane.interfaces.mailbox_store import MailboxLimits
from tests.contract.samples import BOX, START_MS, frame


async def test_a_receipt_for_the_largest_frame_does_not_hold_the_loop_for_the_square_of_its_messages() -> None:
    mailboxes = MemoryMailboxStore(MailboxLimits(messages=MAX_MESSAGES))
    await mailboxes.append([frame(*range(MAX_MESSAGES))])
    began = time.process_time()
    await mailboxes.record(BOX, [Receipt(1, MAX_MESSAGES, State.ACKED)], START_MS)
    assert time.process_time() - began < 3  # it was 30 s; it is 0.1 s
    assert await mailboxes.read(BOX, 0, 1) == []
