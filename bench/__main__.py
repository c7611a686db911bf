"""`conductor bench` and `python -m bench`: measure, show a table, save JSON."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.figures import Figure, machine, save, show


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="conductor bench", description=__doc__)
    parser.add_argument("what", choices=["all", "standalone", "relay"], nargs="?", default="all")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions; the table shows median, min and max (default: 3)")
    parser.add_argument("--size", type=int, default=256, help="payload of a message in bytes (default: 256)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine and figures to FILE")
    given = parser.parse_args()
    figures: list[Figure] = []
    if given.what in ("all", "standalone"):
        from bench import standalone  # noqa: PLC0415 - each bench imports what it measures

        figures += standalone.measure(given.rounds)
    if given.what in ("all", "relay"):
        from bench import relay  # noqa: PLC0415 - see above

        figures += relay.measure(given.rounds, given.size)
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    show(figures)
    if given.json:
        save(figures, given.json)


if __name__ == "__main__":
    main()
