"""Holds a process driver with busy sandboxes until it is killed: for the tests of what its death leaves behind.

`python -m tests.contract.isolation_holder FOLDER [HOW MANY]`; prints one line of facts when all of them run.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from agent_sidecar.isolation.process_driver import make_process_driver
from tests.contract.isolation_driver import LOCKS, UIDS, Sandbox, line_of

TEXT = "trap '' TERM HUP INT; setsid sh -c 'trap \"\" TERM; sleep 984' & echo up; sleep 984"


async def main() -> None:
    base = Path(sys.argv[1])
    driver = make_process_driver(base / "state", LOCKS, uid_range=UIDS, group_list=base / "groups")
    sandbox = Sandbox(driver, base)
    plans = [sandbox.plan(sandbox.spec("/bin/sh", "-c", TEXT)) for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 1)]
    handles = await asyncio.gather(*(driver.start(each) for each in plans))
    for handle in handles:
        assert await line_of(handle) == b"up\n"
    pids = [handle.pid for handle in handles]
    facts = {"pid": os.getpid(), "launcher": driver.launcher_pid, "sandboxes": pids, "uid": driver.agent_uid}
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()
    await handles[0].wait()


if __name__ == "__main__":
    asyncio.run(main())
