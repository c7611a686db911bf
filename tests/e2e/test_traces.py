"""One trace from `conductor run` through control plane, sidecar and agent and back, over the standard OTLP protocol."""

from __future__ import annotations

import pytest

from claude_conductor.v1.task_pb2 import TaskSpec
from tests.e2e.conftest import Installation, eventually
from tests.fakes.otlp_receiver import otlp_receiver

pytestmark = pytest.mark.timeout(120)


def test_a_run_is_one_connected_trace_and_the_agent_gets_its_context(installation: Installation):
    with otlp_receiver() as receiver:
        installation.environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        installation.start(num_agents=1)
        done = installation.run("run", "traced", "--agent", "command", "--cmd", "echo parent=$TRACEPARENT", "--wait")
        with installation.client() as client:
            [task] = client.tasks.list()
            output = b"".join(chunk.data for chunk in client.tasks.output(task.task_id)).decode()
        installation.run("stop")
        eventually(lambda: "task run" in {span.name for span in receiver.spans}, what="the sidecar's spans arrive")

    assert done.returncode == 0
    run = next(span for span in receiver.spans if span.name == "task run")
    trace = [span for span in receiver.spans if span.trace_id == run.trace_id]
    services = {span.service for span in trace}
    ids = {span.span_id for span in trace}
    assert len(services) == 3, services
    roots = [span for span in trace if not span.parent_id]
    assert len(roots) == 1, [(span.service, span.name) for span in roots]
    assert [span.name for span in trace if span.parent_id and span.parent_id not in ids] == []
    agent = next(span for span in trace if span.name == "agent run")
    assert f"parent=00-{agent.trace_id}-{agent.span_id}-01" in output


def test_without_an_endpoint_nothing_is_exported_and_tasks_run(installation: Installation):
    installation.start(num_agents=1)
    with installation.client() as client:
        task = client.tasks.submit(TaskSpec(driver="command", command=["true"]))
        assert client.tasks.wait(task.task_id, timeout=30).result.exit_code == 0
