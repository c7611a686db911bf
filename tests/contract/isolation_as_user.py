"""Runs the contract suite of isolation drivers as whoever starts it, without pytest; prints a JSON object of results.

`python isolation_as_user.py FOLDER`: name of each behaviour -> empty if it is kept, else what went wrong.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from pathlib import Path

from agent_sidecar.isolation.process_driver import make_process_driver
from tests.contract.isolation_driver import LOCKS, IsolationDriverContract, Sandbox


async def attempt(name: str, base: Path) -> str:
    base.mkdir(mode=0o700)
    driver = make_process_driver(base / "state", LOCKS)
    try:
        await getattr(IsolationDriverContract(), name)(Sandbox(driver, base))
    except (AssertionError, Exception) as error:  # noqa: BLE001 - this is the outermost frame; it reports
        return "".join(traceback.format_exception(error))
    finally:
        await driver.close()
    return ""


def main() -> None:
    base = Path(sys.argv[1])
    names = [name for name in dir(IsolationDriverContract) if name.startswith("test_")]
    results = {name: asyncio.run(attempt(name, base / str(index))) for index, name in enumerate(names)}
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main()
