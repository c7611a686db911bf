"""Plays schedules of tasks: `python -m tests.simulation.tasks SEED` one of them, `--from A --count N` many."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.tasks.world import play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.tasks", description=__doc__)
    parser.add_argument("seeds", nargs="*", type=int)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("-v", action="store_true", help="print what happened")
    asked = parser.parse_args()
    began, failed = time.process_time(), 0
    seeds = [*asked.seeds, *range(asked.first, asked.first + asked.count)]
    for seed in seeds:
        history, problems = play(seed)
        if asked.v:
            print(*history.happenings, sep="\n")
        if problems:
            failed += 1
            print(f"python -m tests.simulation.tasks {seed}:", *problems[:6], sep="\n  ")
    print(f"{len(seeds)} schedules, {failed} failed, {time.process_time() - began:.1f} s of processor time")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
