"""Which groups of subtasks are asked for in a schedule, and which of them nobody can do?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from random import Random

from claude_conductor.ids import TaskId, TenantId
from controlplane.domain.task import FanOut, OnFailure, Spec
from controlplane.service.intake import Submission, Wanted


def draw(random: Random, tenant: TenantId, request: str, spec: Callable[[], Spec]) -> list[Wanted]:
    """Return a group and its subtasks, some of which come after the one before."""
    kind = FanOut(random.choice((0, 1, 2)), random.choice(list(OnFailure)))
    specs = [Spec(prompt="all", fan_out=kind), *(spec() for _ in range(random.randint(1, 4)))]
    return [
        Wanted(
            Submission(tenant, "operator", f"{request}.{place}", each),
            after=(place - 1,) if place > 1 and random.random() < 0.2 else (),
            within=0 if place else None,
        )
        for place, each in enumerate(specs)
    ]


def impossible(wanted: Sequence[Wanted], task_ids: Sequence[TaskId], known: AbstractSet[str]) -> set[str]:
    """Return which of them wait for somebody who does not exist, also through what they wait for; the group is the first."""
    found: set[str] = set()
    for task_id, each in list(zip(task_ids, wanted, strict=True))[1:]:
        others = {*each.submission.spec.depends_on, *(task_ids[place] for place in each.after)}
        if each.submission.spec.driver == "none" or others & (known | found):
            found.add(task_id)
    return found | {task_ids[0]} if found else found
