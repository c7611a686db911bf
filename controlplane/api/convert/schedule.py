"""How do schedules travel?"""

from __future__ import annotations

from typing import Final

from claude_conductor.errors import InvalidArgumentError
from claude_conductor.v1 import schedule_pb2 as pb
from controlplane.api.convert.task import spec_to_proto
from controlplane.api.convert.values import timestamp
from controlplane.domain.schedule import Firing, Overlap, Schedule

_RULES: Final = {rule: pb.OverlapRule.Value(f"OVERLAP_RULE_{rule.name}") for rule in Overlap}
_RULES_BACK: Final[dict[int, Overlap]] = {number: rule for rule, number in _RULES.items()}


def overlap_from_proto(rule: int) -> Overlap:
    """Return the rule; unset means skip.

    Raises:
        InvalidArgumentError: It is none that this version knows.
    """
    if rule == pb.OVERLAP_RULE_UNSPECIFIED:
        return Overlap.SKIP
    if rule not in _RULES_BACK:
        raise InvalidArgumentError("There is no such overlap rule.", field="schedule.overlap", value=rule)
    return _RULES_BACK[rule]


def schedule_to_proto(schedule: Schedule) -> pb.Schedule:
    """Return the schedule as people see it."""
    return pb.Schedule(
        schedule_id=schedule.id,
        name=schedule.name,
        cron=schedule.cron,
        time_zone=schedule.zone,
        overlap=_RULES[schedule.overlap],
        spec=spec_to_proto(schedule.spec),
        paused=schedule.paused,
        create_time=timestamp(schedule.create_time),
        next_time=timestamp(schedule.next_time),
        firings=[_firing_to_proto(firing) for firing in schedule.firings],
        submitter=schedule.submitter,
    )


def _firing_to_proto(firing: Firing) -> pb.Firing:
    return pb.Firing(
        planned_time=timestamp(firing.time),
        fire_time=timestamp(firing.at),
        outcome=pb.FiringOutcome.Value(f"FIRING_OUTCOME_{firing.outcome.name}"),
        task_id=firing.task_id,
        reason=firing.reason,
        missed=firing.missed,
        by_hand=firing.by_hand,
    )
