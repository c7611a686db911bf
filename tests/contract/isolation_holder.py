"""Holds a process driver with a busy sandbox until it is killed: for the tests of what its death leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from agent_sidecar.isolation.process_driver import make_process_driver
from tests.contract.isolation_driver import LOCKS, Sandbox, line_of

TEXT = "trap '' TERM HUP INT; setsid sh -c 'trap \"\" TERM; sleep 984' & echo up; sleep 984"


async def main() -> None:
    base = Path(sys.argv[1])
    driver = make_process_driver(base / "state", LOCKS, group_list=base / "groups")
    sandbox = Sandbox(driver, base)
    handle = await driver.start(sandbox.plan(sandbox.spec("/bin/sh", "-c", TEXT)))
    assert await line_of(handle) == b"up\n"
    facts = {"pid": os.getpid(), "launcher": driver.launcher_pid, "sandbox": handle.pid, "uid": driver.agent_uid}
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()
    await handle.wait()


if __name__ == "__main__":
    asyncio.run(main())
