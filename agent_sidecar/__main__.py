"""Starts a sidecar: the launcher of isolated processes first, while this process has one thread, then what uses grpc."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

from claude_conductor.errors import ConductorError, Kind

EXIT_CONFIGURATION: Final = 78
"""EX_CONFIG of sysexits(3): starting it again without a change does not help."""


def main(arguments: list[str] | None = None) -> int:
    """Run a sidecar with `--settings-fd N`; return its exit code. argparse stays out: it costs every agent 1.2 MB."""
    match sys.argv[1:] if arguments is None else arguments:
        case ["--settings-fd", number] if number.isdecimal():
            descriptor = int(number)
        case _:
            sys.stderr.write("agent_sidecar: it needs --settings-fd N - `conductor start` starts it so\n")
            return EXIT_CONFIGURATION
    try:
        _run(descriptor)
    except ConductorError as error:
        sys.stderr.write(f"agent_sidecar: {error} - {error.next_step}\n")
        return EXIT_CONFIGURATION if error.kind is Kind.INVALID_ARGUMENT else 1
    return 0


def _run(descriptor: int) -> None:
    # Imported step by step on purpose: nothing that starts a thread may come before the launcher.
    from agent_sidecar.isolation import bubblewrap  # noqa: PLC0415
    from agent_sidecar.isolation.process_driver import make_process_driver  # noqa: PLC0415
    from agent_sidecar.run.folders import check  # noqa: PLC0415
    from agent_sidecar.settings import Settings  # noqa: PLC0415
    from claude_conductor.rpc import process  # noqa: PLC0415
    from claude_conductor.settings.handover import read_descriptor  # noqa: PLC0415
    from claude_conductor.telemetry import logs  # noqa: PLC0415

    settings = read_descriptor(Settings, descriptor)
    check(settings)
    logs.configure(settings.log_level, settings.log_style)
    isolation = make_process_driver(
        settings.home / "sidecars" / settings.agent_id / "isolation",
        Path("/run/lock/conductor-uids") if os.geteuid() == 0 else settings.home / "run/uids",
        uid_range=(settings.uid_first, settings.uid_last),
        group_list=settings.home / "run/agents" / settings.agent_id / "cgroups",  # read by the supervisor
        bubblewraps=bubblewrap.named(os.environ),
        etc_folder=settings.home / "run/etc",  # 700 files: made once, not by each sidecar
    )
    process.prepare()
    from agent_sidecar.app import serve  # noqa: PLC0415 - grpc is loaded here

    asyncio.run(serve(settings, isolation, dict(os.environ)))  # uvloop gains one session nothing and costs 2.3 MB


if __name__ == "__main__":
    sys.exit(main())
