"""A store that fails after it has done what was asked: a change counts once, and what follows from it happens."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from claude_conductor.errors import StoreUnavailableError
from claude_conductor.ids import DEFAULT_TENANT, TenantId
from controlplane.backends.memory.agent_store import MemoryAgentStore
from controlplane.backends.memory.task_store import MemoryTaskStore
from controlplane.domain.task import Failure, FailureKind, Lease, Result, Spec, State, Task
from controlplane.service import certain
from controlplane.service.intake import Submission
from controlplane.service.results import HasEnded
from tests.contract.samples import HandClock, task, task_id
from tests.contract.task_services import Counting, Link, Services


class Unsaid(MemoryTaskStore):
    """A connection that breaks before the answer, or before the question; `blind` says how many reads fail afterwards."""

    after = before = False
    blind = 0

    async def insert(self, task: Task) -> Task:
        self._may_fail(self.before)
        stored = await super().insert(task)
        self._may_fail(self.after)
        return stored

    async def save(self, task: Task) -> bool:
        self._may_fail(self.before)
        saved = await super().save(task)
        self._may_fail(self.after)
        return saved

    async def get(self, tenant_id: TenantId, task_id: str) -> Task:
        self.blind -= 1
        self._may_fail(self.blind >= 0)
        return await super().get(tenant_id, task_id)

    def _may_fail(self, fails: bool) -> None:
        if fails:
            raise StoreUnavailableError("The connection broke.")


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store(clock: HandClock) -> Unsaid:
    return Unsaid(clock)


async def begun(store: Unsaid, clock: HandClock) -> tuple[Services, Link]:
    services = Services(store, MemoryAgentStore(), clock, Counting())
    await services.recover()
    _, link = await services.connect("a", "life 1", None)
    return services, link


def request(**spec: object) -> Submission:
    return Submission(DEFAULT_TENANT, "operator", "", Spec(driver="scripted", **spec))  # type: ignore[arg-type]


async def leased(services: Services, link: Link) -> Lease:
    await services.dispatch.round()
    (given,) = link.assigned
    assert given.lease is not None
    return given.lease


async def test_a_task_that_was_stored_without_a_word_is_a_task_like_any_other(store: Unsaid, clock: HandClock) -> None:
    services, link = await begun(store, clock)
    store.after = True
    submitted = await services.intake.submit(request())
    store.after = False
    assert (await leased(services, link)).task_id == submitted.id
    assert services.tasks.counts() == {"leased": 1}


async def test_a_result_that_was_stored_without_a_word_counts_once_and_frees_its_agent(store: Unsaid, clock: HandClock) -> None:
    services, link = await begun(store, clock)
    first = await services.intake.submit(request())
    second = await services.intake.submit(request(depends_on=(first.id,)))
    lease = await leased(services, link)
    store.after = True
    await services.results.take(DEFAULT_TENANT, services.registry.live_agents()[0].id, HasEnded(lease, Result()))
    store.after = False
    assert [(await store.get(DEFAULT_TENANT, each.id)).state for each in (first, second)] == [State.SUCCEEDED, State.QUEUED]
    assert services.leases.get(first.id) is None
    assert services.in_hand.counts == {}
    assert len(services.registry.free()) == 1


async def test_a_change_that_was_not_stored_is_refused_and_can_be_made_again(store: Unsaid, clock: HandClock) -> None:
    services, link = await begun(store, clock)
    submitted = await services.intake.submit(request())
    lease = await leased(services, link)
    failed = HasEnded(lease, Result(failure=Failure(FailureKind.WORKSPACE, "no")))
    agent = services.registry.live_agents()[0].id
    store.before = True
    for wish in (services.results.take(DEFAULT_TENANT, agent, failed), services.intake.submit(request())):
        with pytest.raises(StoreUnavailableError):
            await wish
    store.before = False
    assert services.leases.get(submitted.id) is not None
    await services.results.take(DEFAULT_TENANT, agent, failed)
    assert (await store.get(DEFAULT_TENANT, submitted.id)).failures == 1
    assert services.tasks.counts() == {"failed": 1}


async def test_it_waits_until_it_can_be_read_what_was_stored(store: Unsaid) -> None:
    await store.insert(task(1))
    store.after = True
    saving = asyncio.create_task(certain.save(store, replace(task(1), version=2, progress="on")))
    store.blind = 1
    assert await saving
    store.blind = 1
    assert (await certain.insert(store, task(2))).id == task_id(2)


async def test_what_somebody_else_stored_is_not_taken_for_ours(store: Unsaid) -> None:
    await store.insert(task(1))
    await store.save(replace(task(1), version=2, progress="theirs"))
    store.after = store.before = True
    assert not await certain.save(store, replace(task(1), version=2, progress="ours"))
    with pytest.raises(StoreUnavailableError):
        await certain.save(store, replace(task(1), version=3, progress="ours"))
