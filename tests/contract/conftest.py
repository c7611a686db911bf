import pytest

SUITES = (
    *("task_store", "mailbox_store", "agent_store", "event_log", "output_log", "blob_store", "schedule_store"),
    *("identity_store", "audit_store"),
)
pytest.register_assert_rewrite(*(f"tests.contract.{name}" for name in SUITES))

from tests.contract.samples import HandClock  # noqa: E402 - the suites must be registered before anything imports them


@pytest.fixture
def clock() -> HandClock:
    return HandClock()
