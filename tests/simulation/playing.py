"""How are many schedules played, from the command line and by tests, whatever is simulated?"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Play = Callable[[int], tuple[Any, Sequence[str]]]
"""Plays the schedule of a seed; returns its history and what was wrong with it."""


def failures(play: Play, seeds: Iterable[int], module: str) -> list[str]:
    """Play schedules until three have failed; return for each the command that plays it again, and what was wrong."""
    found: list[str] = []
    for seed in seeds:
        _, problems = play(seed)
        if problems:
            found.append("\n  ".join((f"python -m {module} {seed}", *problems[:5])))
        if len(found) == 3:
            break
    return found


def main(play: Play, module: str, about: str | None, told: Callable[[Any], Iterable[object]]) -> int:
    """Be the command `python -m MODULE`; `told` returns the lines of a history."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
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
            print(*told(history), sep="\n")
        if problems:
            failed += 1
            print(f"python -m {module} {seed}:", *problems[:6], sep="\n  ")
    print(f"{len(seeds)} schedules, {failed} failed, {time.process_time() - began:.1f} s of processor time")
    return 1 if failed else 0
