"""`python -m agent_sidecar.isolation.doctor --json`: what can this host isolate, and which level lacks what?"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from agent_sidecar.isolation import plan
from agent_sidecar.isolation.interface import Capabilities, Level, Limits, Mechanism, Refusal, Spec
from agent_sidecar.isolation.plan import HostFacts
from agent_sidecar.isolation.process_driver import probe_host
from claude_conductor.errors import ConductorError

_SOME_UID = 61200
"""Stands for the uid a root sidecar would take."""


def report(found: Capabilities, *, root: bool, homes: frozenset[Path]) -> dict[str, object]:
    """Return what was found and what each level lacks, ready for JSON."""
    facts = HostFacts(root=root, agent_uid=_SOME_UID, homes=homes)
    levels = {level.value: {"missing": [_plain(each) for each in lacks(found, level, facts)]} for level in Level}
    return {"driver": found.driver, "mechanisms": [_plain(each) for each in found.mechanisms], "levels": levels}


def lacks(found: Capabilities, level: Level, facts: HostFacts) -> tuple[Mechanism, ...]:
    """Return what keeps an ordinary task from running at this level; a workspace cap is not part of an ordinary task."""
    somewhere = Path("/var/lib/conductor-doctor")
    limits = Limits(workspace_bytes=0)
    spec = Spec("doctor", "doctor", ("true",), {}, somewhere / "workspace", somewhere / "sockets", level, limits)
    decision = plan.decide(spec, found, facts)
    return decision.missing if isinstance(decision, Refusal) else ()


def _plain(mechanism: Mechanism) -> dict[str, str]:
    return {**asdict(mechanism), "strength": mechanism.strength.value}


def main() -> int:
    """Probe this host and print the report as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", required=True, help="the only form: people use `conductor doctor`")
    parser.parse_args()
    homes = frozenset(Path(entry.pw_dir) for entry in pwd.getpwall() if entry.pw_uid == os.geteuid())
    try:
        with tempfile.TemporaryDirectory(prefix="conductor-doctor-") as scratch:
            found = probe_host(Path(scratch))
    except ConductorError as error:
        sys.stderr.write(f"{error}: {error.next_step}\n")
        return 1
    json.dump(report(found, root=os.geteuid() == 0, homes=homes), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
