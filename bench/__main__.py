"""`conductor bench` and `python -m bench`: measure, show a table, save JSON."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.figures import Figure, Verdict, machine, save, show, show_verdicts
from controlplane.settings import GRPC_SERVER

WHAT = ("all", "standalone", "relay", "dispatch", "queue", "idle", "rules", "slow-consumer", "isolation", "plot")
PEERS = ("echo", "nats", "autogen", "slim")
GRPC_SERVERS = ("native", "grpcio")
QUEUES = ("celery", "taskiq")
KINDS = ("notified", "tasks", "tasks-batched", "submits", "submits-batched")

DISPATCH = """The task queue, durable in SQLite, beside Celery and taskiq with Redis as it comes and with a log that is synced:
`conductor bench dispatch --against celery,taskiq --rounds 5 --json FILE` after `make bench-peers`. `notified`: from the call that
submits a task to a worker having it, one in flight. `tasks`: tasks that do nothing, from the first submit to the last one done,
each submitted by its own call; `submits`: until the queue says that it has them, with nobody who works; `-batched`: submitted as
each system submits many at once."""
QUEUE = """What a queue of waiting tasks costs: memory, how quickly tasks are submitted to it, how soon others that come meanwhile
are in hand, how quickly it is worked off, and how long a control plane takes to be ready with it."""


def numbers(text: str) -> list[int]:
    """Return the numbers of a list with commas."""
    return [int(each) for each in text.split(",")]


def words(*allowed: str) -> type[argparse.Action]:
    """Return what takes a list with commas of these words."""

    class Words(argparse.Action):
        def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, *_: object) -> None:
            given = str(values).split(",")
            unknown = [each for each in given if each not in allowed]
            if unknown:
                parser.error(f"argument --{self.dest}: {unknown[0]} is none of {', '.join(allowed)}")
            setattr(namespace, self.dest, given)

    return Words


def read(arguments: Sequence[str]) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="conductor bench", description=__doc__)
    parser.add_argument("what", choices=WHAT, nargs="?", default="all")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions; tables show median, min and max (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine, figures and verdicts to FILE; `plot` reads it")
    relay = parser.add_argument_group("relay")
    relay.add_argument("--size", type=numbers, default=[256, 65536], help="bytes of a payload (default: 256,65536)")
    relay.add_argument("--pairs", type=numbers, default=[1, 64], help="senders, each with a receiver (default: 1,64)")
    relay.add_argument(
        "--paced", type=float, default=1000.0, metavar="RATE", help="messages a second of all pairs (default: 1000)"
    )
    relay.add_argument("--quality", action=words("ephemeral", "durable"), default=["ephemeral", "durable"])
    relay.add_argument("--store", action=words("memory", "sqlite"), default=["memory", "sqlite"])
    relay.add_argument(
        "--against",
        action=words(*PEERS, *QUEUES),
        default=["echo"],
        help=f"any of {','.join(PEERS)}, and for `dispatch` of {','.join(QUEUES)}; echo is always there",
    )
    relay.add_argument(
        "--grpc-server",
        action=words(*GRPC_SERVERS),
        default=[GRPC_SERVER],
        help=f"what the control plane serves gRPC with; with {','.join(GRPC_SERVERS)} the first is judged and the second stands "
        f"beside it (default: {GRPC_SERVER})",
    )
    dispatch = parser.add_argument_group("dispatch", DISPATCH)
    dispatch.add_argument("--kind", action=words(*KINDS), default=list(KINDS), help=f"any of {','.join(KINDS)} (default: all)")
    dispatch.add_argument("--tasks", type=int, default=0, help="in one measurement (default: as many as take a few seconds)")
    queue = parser.add_argument_group("queue", QUEUE)
    queue.add_argument(
        "--depth", type=numbers, default=[0, 100, 1000, 10_000], help="tasks that wait (default: 0,100,1000,10000)"
    )
    idle = parser.add_argument_group("idle")
    idle.add_argument("--agents", type=numbers, default=[1, 10, 100, 1000], help="(default: 1,10,100,1000)")
    plot = parser.add_argument_group("plot")
    plot.add_argument("--folder", type=Path, default=Path("docs/benchmarks"), help="where pictures go (default: docs/benchmarks)")
    given = parser.parse_args(arguments)
    if given.what == "plot" and given.json is None:
        parser.error("plot reads what --json FILE wrote")
    return given


def relay(given: argparse.Namespace) -> tuple[list[Figure], list[Verdict]]:
    """Measure the relay, beside the peers that are installed."""
    from bench import goals, systems  # noqa: PLC0415 - each bench imports what it measures
    from bench import relay as bench  # noqa: PLC0415 - see above

    wanted = [system for name in given.against if name not in ("echo", *QUEUES) for system in systems.AGAINST[name]]
    skipped = {system.name: why for system in wanted if (why := _why_not(system))}
    for name, why in skipped.items():
        print(f"skipped: {name}: {why}", file=sys.stderr)
    chosen = [
        system
        for (quality, store), system in systems.ours(given.grpc_server[0]).items()
        if quality in given.quality and (quality == "ephemeral" or store in given.store)  # ephemeral ones are in no store
    ]
    if "ephemeral" in given.quality:
        chosen += [systems.beside(other) for other in given.grpc_server[1:]]
    chosen = [
        systems.ECHO,
        *chosen,
        *(system for system in wanted if system.name not in skipped and system.quality in given.quality),
    ]
    paced = [number for number in given.pairs if number > 1]
    wish = bench.Wish(bench.cells(given.size, given.pairs, given.paced, paced), chosen, given.rounds)
    results = bench.measure(wish)
    return bench.figures(results, chosen), goals.judge(results, skipped)


def dispatch(given: argparse.Namespace) -> tuple[list[Figure], list[Verdict]]:
    """Measure the task queue, beside the peers that are installed."""
    from bench import dispatch as bench  # noqa: PLC0415 - see above
    from bench import goals, queues  # noqa: PLC0415 - see above

    wanted = [queue for name in given.against if name in queues.AGAINST for queue in queues.AGAINST[name]]
    skipped = {queue.name: why for queue in wanted if (why := _why_not(queue))}
    for name, why in skipped.items():
        print(f"skipped: {name}: {why}", file=sys.stderr)
    ours = queues.OURS["sqlite"]
    chosen = [*(queues.OURS[store] for store in given.store), *(queue for queue in wanted if queue.name not in skipped)]
    kinds = [kind for kind in bench.PARTS if kind.replace(", ", "-") in given.kind]
    results = bench.measure(bench.cells(kinds), chosen, given.rounds, given.tasks)
    return bench.figures(results, ours.name), goals.judge_dispatch(results, skipped)


def _why_not(system: object) -> str:
    from bench import loopback, systems  # noqa: PLC0415 - see above

    assert isinstance(system, systems.System)
    return system.missing() or ("" if loopback.is_inside() else "it may only run where there is no network; see above")


def main() -> None:
    """Measure what was asked for."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was started is ended
    given = read(sys.argv[1:])
    if given.what in ("relay", "dispatch") and given.against != ["echo"]:
        from bench import loopback  # noqa: PLC0415 - see above

        if loopback.entered():
            loopback.bring_up()
        else:
            print(f"the peers are skipped: {loopback.enter(sys.argv[1:])}", file=sys.stderr)
    if given.what == "plot":
        from bench import plot  # noqa: PLC0415 - see above

        print(*plot.draw(given.json, given.folder), sep="\n")
        return
    figures, verdicts = measure(given)
    facts = {**machine(), "gRPC server": " and ".join(given.grpc_server if given.what in ("all", "relay") else [GRPC_SERVER])}
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    show(figures)
    if verdicts:
        print()
        show_verdicts(verdicts)
    if given.json:
        save(facts, figures, verdicts, given.json)


def measure(given: argparse.Namespace) -> tuple[list[Figure], list[Verdict]]:
    """Measure one thing, or all."""
    figures: list[Figure] = []
    verdicts: list[Verdict] = []
    if given.what in ("all", "standalone"):
        from bench import standalone  # noqa: PLC0415 - see above

        figures += standalone.measure(given.rounds)
    if given.what in ("all", "relay"):
        found, judged = relay(given)
        figures, verdicts = [*figures, *found], [*verdicts, *judged]
    if given.what in ("all", "dispatch"):
        found, judged = dispatch(given)
        figures, verdicts = [*figures, *found], [*verdicts, *judged]
    if given.what in ("all", "queue"):
        from bench import queue  # noqa: PLC0415 - see above

        figures += queue.measure(given.depth, given.rounds)
    if given.what in ("all", "idle"):
        from bench import idle  # noqa: PLC0415 - see above

        of_idle, verdict = idle.measure(given.agents)
        figures, verdicts = [*figures, *of_idle], [*verdicts, verdict]
    if given.what in ("all", "rules"):
        from bench import rules  # noqa: PLC0415 - see above

        figures += rules.measure(given.rounds)
    if given.what in ("all", "slow-consumer"):
        from bench import slow_consumer  # noqa: PLC0415 - see above

        figures += slow_consumer.measure(given.rounds)
    if given.what in ("all", "isolation"):
        from bench import isolation  # noqa: PLC0415 - see above

        found, judged = isolation.measure(given.rounds)
        figures, verdicts = [*figures, *found], [*verdicts, *judged]
    return figures, verdicts


if __name__ == "__main__":
    main()
