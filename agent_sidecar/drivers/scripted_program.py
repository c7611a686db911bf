"""What the scripted agent does: runs a list of steps from standard input, one per line, and prints what happened.

Standard library only, and nothing of Conductor: it runs inside the sandbox. Blank lines and lines that begin with # are skipped.

    print TEXT          write PATH TEXT     exit CODE           allocate MEBIBYTES  probe network
    sleep SECONDS       append PATH TEXT    crash               fork N              probe home [PATH]
    spin SECONDS        read PATH           hang                ignore-term

An unknown step ends it with exit code 2 before anything ran; a step that fails ends it with 1.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

MEBIBYTE = 1 << 20
UNROUTABLE = ("192.0.2.1", 9)
"""An address of TEST-NET-1 (RFC 5737). Connecting a datagram socket sends nothing, it only asks the kernel for a route."""

_held: list[bytearray] = []


def say(text: str) -> None:
    """Print one line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def sleep(seconds: str) -> None:
    """Do nothing for a while."""
    time.sleep(float(seconds))
    say(f"slept {seconds} s")


def write(rest: str) -> None:
    """Write a line to a file, making its folders."""
    name, _, text = rest.partition(" ")
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
    say(f"wrote {name}")


def append(rest: str) -> None:
    """Add a line to a file."""
    name, _, text = rest.partition(" ")
    with Path(name).open("a", encoding="utf-8") as file:
        file.write(text + "\n")
    say(f"appended to {name}")


def read(name: str) -> None:
    """Print a file."""
    say(Path(name).read_text(encoding="utf-8", errors="replace").rstrip("\n"))


def leave(code: str) -> None:
    """End with an exit code."""
    say(f"exiting with {int(code)}")
    raise SystemExit(int(code))


def crash(_: str) -> None:
    """Die of a real memory fault: unlike a sent signal it also ends a process that is the first of its pid namespace."""
    import ctypes  # noqa: PLC0415 - 10 ms that no other step has to pay

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    say("crashing")
    ctypes.string_at(0)


def hang(_: str) -> None:
    """Wait for ever."""
    say("hanging")
    while True:
        signal.pause()


def spin(seconds: str) -> None:
    """Keep a processor busy."""
    end = time.monotonic() + float(seconds)
    rounds = 0
    while time.monotonic() < end:
        rounds += 1
    say(f"spun {seconds} s")


def allocate(mebibytes: str) -> None:
    """Take memory, touch every page of it and keep it."""
    block = bytearray(int(mebibytes) * MEBIBYTE)
    block[:: resource.getpagesize()] = b"x" * len(block[:: resource.getpagesize()])
    _held.append(block)
    say(f"allocated {mebibytes} MiB")


def fork(count: str) -> None:
    """Start processes that stay until they are killed; says how many the host allowed."""
    made = 0
    for _ in range(int(count)):
        try:
            child = os.fork()
        except OSError as refusal:
            say(f"forked {made} of {count}: {os.strerror(refusal.errno or 0)}")
            return
        if child == 0:
            while True:
                signal.pause()
        made += 1
    say(f"forked {made} of {count}")


def ignore_term(_: str) -> None:
    """Ignore SIGTERM from now on."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say("ignoring SIGTERM")


def probe(rest: str) -> None:
    """Tell what can be reached from in here."""
    what, _, where = rest.partition(" ")
    say(probe_network() if what == "network" else probe_home(where))


def probe_network() -> str:
    """Ask for a route out, without sending anything."""
    lines = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()[2:]
    interfaces = ", ".join(line.partition(":")[0].strip() for line in lines)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probing:
        try:
            probing.connect(UNROUTABLE)
        except OSError as refusal:
            return f"network: unreachable ({refusal.strerror}), interfaces: {interfaces}"
    return f"network: reachable, interfaces: {interfaces}"


def probe_home(where: str) -> str:
    """Look for people's files: in one folder, or in /root and /home; what leads to the interpreter itself does not count."""
    needed = {Path(sys.prefix), Path(sys.base_prefix), Path(__file__), Path(os.environ.get("HOME", "/nonexistent"))}
    seen: list[str] = []
    for folder in [where] if where else ["/root", "/home"]:
        try:
            entries = sorted(Path(folder).iterdir())
        except OSError:
            continue
        seen += [str(entry) for entry in entries if not any(path.is_relative_to(entry) for path in needed)]
    return f"home: visible ({', '.join(seen[:5])})" if seen else "home: hidden"


STEPS: dict[str, Callable[[str], None]] = {
    "print": say,
    "sleep": sleep,
    "spin": spin,
    "write": write,
    "append": append,
    "read": read,
    "exit": leave,
    "crash": crash,
    "hang": hang,
    "allocate": allocate,
    "fork": fork,
    "ignore-term": ignore_term,
    "probe": probe,
}
NUMBERED = {"sleep": float, "spin": float, "exit": int, "allocate": int, "fork": int}
NAMED = ("write", "append", "read")


def complaint(step: str, rest: str) -> str:
    """Return what is wrong with a step; empty where nothing is."""
    if step not in STEPS:
        return f"unknown step; it knows {', '.join(STEPS)}"
    if step == "probe" and rest != "network" and rest.partition(" ")[0] != "home":
        return "it probes `network` or `home`"
    if step in NAMED and not rest:
        return "a path is missing"
    if step in NUMBERED:
        try:
            number = NUMBERED[step](rest)
        except ValueError:
            return f"a number is expected, not `{rest}`"
        return "" if 0 <= number < 1e9 else "the number is out of range"
    return ""


def main() -> int:
    """Check every step, then run them in order."""
    script: list[tuple[str, str]] = []
    for number, line in enumerate(sys.stdin.read().splitlines(), start=1):
        step, _, rest = line.strip().partition(" ")
        if not step or step.startswith("#"):
            continue
        wrong = complaint(step, rest)
        if wrong:
            sys.stderr.write(f"line {number}: {step}: {wrong}\n")
            return 2
        script.append((step, rest))
    for step, rest in script:
        try:
            STEPS[step](rest)
        except (OSError, MemoryError) as failure:
            sys.stderr.write(f"{step} {rest}: {str(failure) or 'out of memory'}\n")
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
