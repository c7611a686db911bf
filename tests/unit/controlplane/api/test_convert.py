"""What a sidecar or an agent wrote can always be told again."""

from __future__ import annotations

import pytest
from google.protobuf import duration_pb2, timestamp_pb2

from claude_conductor.errors import InvalidArgumentError
from claude_conductor.v1 import task_pb2
from controlplane.api.convert.result import result_from_proto, result_to_proto
from controlplane.api.convert.values import seconds_of

LARGEST = (1 << 63) - 1


@pytest.mark.parametrize("seconds", [LARGEST, -LARGEST])
def test_a_result_with_an_absurd_duration_can_be_shown(seconds: int) -> None:
    usage = task_pb2.TaskUsage(wall_time=duration_pb2.Duration(seconds=seconds))
    shown = result_to_proto(result_from_proto(task_pb2.TaskResult(usage=usage)))
    assert shown.usage.wall_time.ToJsonString()


@pytest.mark.parametrize("seconds", [LARGEST, -1])
def test_a_time_that_could_not_be_shown_is_refused(seconds: int) -> None:
    with pytest.raises(InvalidArgumentError):
        seconds_of(timestamp_pb2.Timestamp(seconds=seconds), "spec.not_before_time")
