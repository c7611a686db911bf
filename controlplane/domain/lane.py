"""Which queued tasks are the same to whoever hands them out?

A lane holds tasks that want the same of an agent, fall under the same caps and declared the same write set. If the first of a
lane cannot be handed out now, none of it can: so nobody has to look behind it, and ten thousand capped or impossible tasks hold
up no other.
"""

from __future__ import annotations

import hashlib
import json

from controlplane.domain.caps import Caps, capped
from controlplane.domain.room import asks
from controlplane.domain.task import Task
from controlplane.domain.write_set import place_of


def lane_of(task: Task, caps: Caps) -> str:
    """Return the name of the task's lane: 32 hexadecimal digits.

    Whatever `placement.obstacle`, `caps.capped`, `room.Rooms` and `write_set.Writers` look at belongs in here. Labels without a
    cap do not: tasks often have one of their own, and would each make a lane.
    """
    spec = task.spec
    wanted: list[object] = [
        task.tenant_id,
        spec.type,
        [group.name for group in capped(task, caps) if group.kind in ("label", "group")],
        spec.driver,
        spec.agent_id,
        sorted(spec.required_labels.items()),
        spec.isolation_level.value if spec.isolation_level is not None else "",
        bool(spec.allow),
        [spec.limits.memory_bytes, spec.limits.cpus, spec.limits.pids, spec.limits.workspace_bytes],
    ]
    if spec.parent_task_id:  # a host that is kept lets subtasks of agents through, whose parents hinder nothing they ask for
        wanted.append(spec.parent_task_id if asks(task) else task.parallel is None)
    if spec.writes:  # a parent's claim is no hindrance to its children, so these are a lane of their own
        wanted.append([place_of(spec.workspace), spec.writes, spec.parent_task_id])
    return hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:32]
