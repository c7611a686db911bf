"""What can this host isolate? Answers in JSON, for `conductor doctor`, which does not import this package."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from agent_sidecar.isolation import bubblewrap, plan
from agent_sidecar.isolation.interface import Capabilities, Level, Limits, Mechanism, Plan, Refusal, Spec
from agent_sidecar.isolation.plan import HostFacts
from agent_sidecar.isolation.process_driver import UID_RANGE, probe_host
from claude_conductor.errors import ConductorError

_NOWHERE = Path("/nonexistent")


def report(found: Capabilities, facts: HostFacts) -> dict[str, object]:
    """Return the mechanisms, and for each level what it lacks here."""
    return {
        "driver": found.driver,
        "mechanisms": [_plain(mechanism) for mechanism in found.mechanisms],
        "levels": {level.value: _level(found, facts, level) for level in Level},
    }


def missing(found: Capabilities, facts: HostFacts, level: Level) -> tuple[Mechanism, ...]:
    """Return what an ordinary run at this level lacks on this host; nothing if it would run."""
    decision = _decision(found, facts, level)
    return decision.missing if isinstance(decision, Refusal) else ()


def _decision(found: Capabilities, facts: HostFacts, level: Level) -> Plan | Refusal:
    uncapped = Limits(workspace_bytes=0)  # a cap is asked for by settings or task, and refused there where it cannot be had
    return plan.decide(Spec("doctor", "doctor", ("true",), {}, _NOWHERE, _NOWHERE, level=level, limits=uncapped), found, facts)


def _level(found: Capabilities, facts: HostFacts, level: Level) -> dict[str, object]:
    """Return what a run at this level lacks; and if it would run, what would be in force and what weaker than wanted."""
    decision = _decision(found, facts, level)
    if isinstance(decision, Refusal):
        return {"missing": [_plain(each) for each in decision.missing], "in_force": [], "weaker": []}
    return {"missing": [], "in_force": list(decision.in_force), "weaker": list(decision.degraded)}


def main() -> int:
    """Probe and print; exit code 0 if strict is possible, 1 if not, 2 if the host could not be examined."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory(prefix="conductor-doctor-") as scratch:
        try:
            found = probe_host(Path(scratch), bubblewrap.named(os.environ))
        except ConductorError as error:
            sys.stderr.write(f"{error}\n")
            return 2
    facts = HostFacts(root=root, agent_uid=UID_RANGE[0] if root else os.geteuid())
    answer = report(found, facts)
    sys.stdout.write(json.dumps(answer) + "\n")
    return 1 if missing(found, facts, Level.STRICT) else 0


def _plain(mechanism: Mechanism) -> dict[str, str]:
    return {
        "name": mechanism.name,
        "strength": mechanism.strength.value,
        "detail": mechanism.detail,
        "remedy": mechanism.remedy,
    }


if __name__ == "__main__":
    sys.exit(main())
