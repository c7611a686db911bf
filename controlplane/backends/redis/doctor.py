"""A program: is the Redis server at the address on standard input fit to be the store? Prints JSON."""

from __future__ import annotations

import asyncio
import json
import sys

from claude_conductor.errors import ConductorError
from controlplane.backends.redis.address import parse
from controlplane.backends.redis.examination import examine
from controlplane.backends.redis.fitness import Finding, Verdict
from controlplane.backends.redis.server import Server


async def look(url: str) -> list[Finding]:
    """Return what was found; that it cannot be asked is a finding too."""
    try:
        server = Server(parse(url))
        try:
            return list(await examine(server))
        finally:
            await server.close()
    except ConductorError as error:
        return [Finding("reached", Verdict.UNFIT, str(error), error.next_step)]


def main() -> int:
    """Examine and print; exit code 1 if it is unfit."""
    findings = asyncio.run(look(sys.stdin.read().strip()))
    plain = [{"name": f.name, "verdict": f.verdict.value, "found": f.found, "remedy": f.remedy} for f in findings]
    sys.stdout.write(json.dumps(plain) + "\n")
    return int(any(finding.verdict is Verdict.UNFIT for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
