"""The sidecar's program with the fake isolation in place of the real one; for tests only."""

from __future__ import annotations

import os
import sys

from claude_conductor.errors import ConductorError
from claude_conductor.rpc import process


def main() -> int:
    process.prepare()
    from agent_sidecar.app import serve
    from agent_sidecar.isolation.interface import Level
    from agent_sidecar.settings import Settings
    from claude_conductor.settings.handover import read_descriptor
    from claude_conductor.telemetry import logs
    from tests.fakes.isolation import FakeIsolation

    settings = read_descriptor(Settings, int(sys.argv[sys.argv.index("--settings-fd") + 1]))
    logs.configure(settings.log_level)
    refused = frozenset(Level(name) for name in os.environ.get("FAKE_REFUSED", "").split(",") if name)
    try:
        process.run(
            serve(settings, FakeIsolation(refused=refused, stand_in=os.environ.get("FAKE_STAND_IN", "")), dict(os.environ))
        )
    except ConductorError as error:
        sys.stderr.write(f"{error}\n")
        return 78
    return 0


if __name__ == "__main__":
    sys.exit(main())
