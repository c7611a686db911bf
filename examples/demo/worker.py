"""One worker of the demo: does its part with real tools, tells the coordinator, waits for its answer.

Runs inside the sandbox, so this is what any command-line agent can do: its files are in /workspace, its only way out is the
socket that `AgentClient` finds by itself.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from claude_conductor.client.sync import AgentClient
from claude_conductor.v1.message_pb2 import Envelope

RUFF = str(Path(sys.executable).with_name("ruff"))


def review() -> str:
    """Run a real linter over the clone and return what it found, by rule."""
    run = subprocess.run(
        [RUFF, "check", "--no-cache", "--output-format=json", "--select=E,F,B,C4,UP,SIM,PIE", "."],
        capture_output=True,
        text=True,
        check=False,
    )
    findings = json.loads(run.stdout)
    for finding in findings:
        place = Path(finding["filename"]).relative_to(Path.cwd())
        print(f"{place}:{finding['location']['row']}: {finding['code']} {finding['message']}")
    by_rule: dict[str, int] = {}
    for finding in findings:
        by_rule[finding["code"]] = by_rule.get(finding["code"], 0) + 1
    rules = ", ".join(f"{rule} x{count}" for rule, count in sorted(by_rule.items()))
    return f"{len(findings)} findings: {rules}"


def refactor() -> str:
    """Modernise the code with the linter's own fixes; the change leaves the sandbox as a patch."""
    options = ["--no-cache", "--quiet", "--target-version=py311"]
    fixes = ["--fix", "--unsafe-fixes", "--select=E711,E713,E714,F401,F841,UP,C4,SIM,I"]
    subprocess.run([RUFF, "check", *options, *fixes, "."], check=False)
    subprocess.run([RUFF, "format", *options, "."], check=True)
    changed = subprocess.run(["git", "diff", "--stat"], capture_output=True, text=True, check=True).stdout
    print(changed)
    subprocess.run([sys.executable, "-m", "doctest", *map(str, Path("inventory").glob("[a-z]*.py"))], check=True)
    return "modernised, and the examples in the docstrings still hold"


def write_tests() -> str:
    """Turn the examples in the docstrings into a test file, and run it."""
    cases = [
        (module.stem, node.name)
        for module in sorted(Path("inventory").glob("[a-z]*.py"))
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.FunctionDef) and ">>>" in (ast.get_docstring(node) or "")
    ]
    lines = [
        '"""The examples of the docstrings, as tests."""',
        "",
        "import doctest",
        "import unittest",
        "",
        "from inventory import prices, stock",
        "",
    ]
    lines += ["", "class Examples(unittest.TestCase):"]
    for module, name in cases:
        lines += [
            f"    def test_{module}_{name}(self):",
            f"        found = [t for t in doctest.DocTestFinder().find({module}) if t.name.split('.')[-1] == {name!r}]",
            "        runner = doctest.DocTestRunner(verbose=False)",
            "        results = [runner.run(test) for test in found]",
            "        self.assertTrue(results)",
            "        self.assertEqual(sum(result.failed for result in results), 0)",
            "",
        ]
    tests = Path("tests")
    tests.mkdir(exist_ok=True)
    (tests / "__init__.py").write_text("")
    (tests / "test_examples.py").write_text("\n".join(lines))
    run = subprocess.run([sys.executable, "-m", "unittest", "-v"], capture_output=True, text=True, check=True)
    print(run.stderr)
    return f"{len(cases)} tests written; {run.stderr.strip().splitlines()[-1]}"


def could_not() -> list[str]:
    """Try what an agent must not be able to do, and say what happened."""
    attempts = []
    try:
        # TEST-NET-1 (RFC 5737): an address nobody has, so that a broken sandbox would harm nobody.
        socket.create_connection(("192.0.2.1", 80), timeout=2).close()
        attempts.append("REACHED THE NETWORK")
    except OSError as error:
        attempts.append(f"reach the network: {error.strerror or error}")
    home, there = Path(os.environ["DEMO_HOST_HOME"]), os.environ["DEMO_HOST_HOME_ENTRIES"]
    try:
        names = sorted(os.listdir(home))  # noqa: PTH208 - the plain call says it best
        shown = f": {', '.join(names)}, on the way to its Python" if names else ""
        attempts.append(f"see the host's home {home}: {len(names)} of {there} entries{shown}")
    except OSError as error:
        attempts.append(f"see the host's home {home}: {error.strerror}")
    try:
        Path(os.environ["DEMO_HOST_SECRET"]).read_bytes()
        attempts.append("READ THE OPERATOR'S TOKEN")
    except OSError as error:
        attempts.append(f"read the operator's token: {error.strerror}")
    try:
        Path("/usr/conductor-was-here").write_text("")
        attempts.append("WROTE TO THE SYSTEM")
    except OSError as error:
        attempts.append(f"write to the system: {error.strerror}")
    processes = [name for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    attempts.append(f"see other processes: only its own {len(processes)} are there")
    return attempts


def main() -> None:
    """Work, report, wait for the answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["review", "refactor", "tests"])
    part = parser.parse_args().part
    os.chdir("/workspace")
    with AgentClient() as agent:
        agent.progress(f"{part}: at work")
        found = {"review": review, "refactor": refactor, "tests": write_tests}[part]()
        report = {"part": part, "found": found, "could_not": could_not()}
        agent.send("parent", Envelope(type="demo.report", data_content_type="application/json", data=json.dumps(report).encode()))
        for message in agent.fetch(wait=20):
            print(f"{message.sender} answers: {message.envelope.data.decode()}")
            agent.acknowledge([message.position], mailbox=message.mailbox)
    print(found)


if __name__ == "__main__":
    main()
