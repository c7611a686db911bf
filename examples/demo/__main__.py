"""`make demo`: starts Conductor in a private home, lets isolated agents work on a repository, shows what happened, cleans up."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from claude_conductor.client.sync import Conductor
from claude_conductor.errors import ConductorError
from claude_conductor.units import format_duration, format_size
from claude_conductor.v1.task_pb2 import TASK_STATE_SUCCEEDED, GitWorkspace, Task, TaskSpec, WorkspaceSource

SOURCE = Path(__file__).resolve().parents[2]
CONDUCTOR = str(Path(sys.executable).with_name("conductor"))
WORKERS = 3
PATIENCE = {"command": 55.0, "claude_code": 620.0}
BOLD, PLAIN = ("\033[1m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")


def say(line: str) -> None:
    """Print a heading."""
    print(f"\n{BOLD}{line}{PLAIN}", flush=True)


def make_repository(place: Path) -> Path:
    """Make a git repository of the example project and return its path."""
    repository = place / "inventory"
    shutil.copytree(SOURCE / "examples/demo/repository", repository)
    who = ["-c", "user.name=Demo", "-c", "user.email=demo@example.invalid", "-c", "commit.gpgsign=false"]
    for command in (
        ["init", "-q", "-b", "main"],
        ["add", "."],
        [*who, "commit", "-qm", "An inventory that has seen better days"],
    ):
        subprocess.run(["git", *command], cwd=repository, check=True)
    return repository


def write_config(place: Path) -> Path:
    """Write the settings of the demo: three slots for tasks and one for the coordinator."""
    # What Python needs inside the sandbox: this checkout, the virtual environment, and the interpreter it was made from.
    toolchains = [str(SOURCE), sys.prefix, sys.base_prefix]
    config = {
        "num_agents": WORKERS,
        "container_config": {"memory_limit": "1g", "cpu_limit": "1.0"},
        "agent": {"workspace_isolation": "strict"},
        "toolchains": toolchains,
        "agents": [
            {
                "id": "coordinator",
                "driver": "grpc_agent",
                "command": [sys.executable, "-m", "examples.demo.coordinator"],
                "environment": {"PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"},
                "memory": "256m",
                "cpus": 0.5,
            }
        ],
    }
    path = place / "demo.yaml"
    path.write_text(json.dumps(config, indent=2))  # JSON is YAML
    return path


@contextlib.contextmanager
def running(config: Path) -> Iterator[None]:
    """Run Conductor for the length of the block."""
    subprocess.run([CONDUCTOR, "start", "--config", str(config)], check=True)
    try:
        yield
    finally:
        subprocess.run([CONDUCTOR, "stop"], check=False)


def follow(conductor: Conductor, task_id: str, patience: float) -> Task:
    """Show every change of the task and of its children until it has ended, for `patience` seconds at most."""
    shown: dict[str, str] = {}
    deadline = time.monotonic() + patience
    while True:
        task = conductor.tasks.get(task_id)
        for each in [task, *conductor.tasks.list(parent_task_id=task_id)]:
            line = f"{each.spec.type:16} {each.agent_id or '-':12} {each.progress or each.reason}"
            if shown.get(each.task_id) != line:
                shown[each.task_id] = line
                print(f"  {line}", flush=True)
        if task.HasField("end_time") or time.monotonic() > deadline:
            return task
        time.sleep(0.2)


def show_report(conductor: Conductor, task: Task) -> bool:
    """Print the combined report with the patches; return whether every part succeeded."""
    report = json.loads(task.result.summary)
    say("What the coordinator reports")
    for part, entry in report["tasks"].items():
        found = report["reports"].get(part, {}).get("found", entry["words"])
        print(f"  {part:9} {'done' if entry['succeeded'] else 'FAILED':7} {entry['agent']:12} {found}")
    say("What the agents could not do, each inside its own strict sandbox")
    for part, entry in report["reports"].items():
        for line in entry["could_not"]:
            print(f"  {part:9} {line}")
    say("What came back")
    for part, entry in report["tasks"].items():
        child = conductor.tasks.get(entry["task_id"])
        usage, patch = child.result.usage, child.result.patch
        print(
            f"  {part:9} patch: {patch.files} files +{patch.added_lines} -{patch.removed_lines}"
            f" | {format_duration(usage.wall_time.ToMilliseconds() / 1000)}, {usage.cpu_seconds:.2f} s cpu,"
            f" peak {format_size(usage.memory_peak_bytes)} | in force: {len(child.result.isolation.mechanisms)} mechanisms,"
            f" degraded: {len(child.result.isolation.degradations)}"
        )
        if not entry["succeeded"]:
            output = b"".join(chunk.data for chunk in conductor.tasks.output(child.task_id)).decode(errors="replace")
            print("\n".join(f"            {line}" for line in output.splitlines()[-12:]), file=sys.stderr)
        if part == "refactor" and child.result.patch_artefact_id:
            text = conductor.artefacts.read(child.result.patch_artefact_id).decode()
            print("\n".join(f"            {line}" for line in text.splitlines()[:16]))
            print(f"            ... {len(text.splitlines())} lines in all")
    return all(entry["succeeded"] for entry in report["tasks"].values())


def work(driver: str) -> int:
    """Run the demo in the home that the environment names."""
    place = Path(os.environ["CONDUCTOR_HOME"]).parent
    repository = make_repository(place)
    say("Starting Conductor: a control plane on the embedded store, three agents, one coordinator, all in strict isolation")
    with running(write_config(place)):
        order = {
            "source": str(SOURCE),
            "driver": driver,
            "DEMO_HOST_HOME": str(Path.home()),
            "DEMO_HOST_HOME_ENTRIES": str(sum(1 for _ in Path.home().iterdir())),
            "DEMO_HOST_SECRET": str(Path(os.environ["CONDUCTOR_HOME"]) / "run/operator.token"),
        }
        with Conductor.connect() as conductor:
            say("Giving the coordinator a task; it hands out three parts and talks to each agent through the broker")
            # Its subtasks may use what it was given itself, and nothing else of this host.
            workspace = WorkspaceSource(git=GitWorkspace(repository=str(repository)))
            spec = TaskSpec(driver="grpc_agent", agent_id="coordinator", prompt=json.dumps(order), workspace=workspace)
            task = follow(conductor, conductor.tasks.submit(spec).task_id, PATIENCE[driver])
            good = task.state == TASK_STATE_SUCCEEDED and show_report(conductor, task)
            if task.state != TASK_STATE_SUCCEEDED:
                print(f"the coordinator's task did not succeed: {task.reason}", file=sys.stderr)
        say("Stopping")
    return 0 if good else 1


def main() -> int:
    """Run the demo in a place of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agent", choices=["command", "claude-code"], default="command", help="who does the refactoring")
    driver = parser.parse_args().agent.replace("-", "_")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="conductor-demo-") as place:
        os.environ["CONDUCTOR_HOME"] = str(Path(place) / "home")
        os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
        try:
            code = work(driver)
        except ConductorError as error:
            print(f"{error}\n  {error.next_step}", file=sys.stderr)
            code = 1
        except subprocess.CalledProcessError as error:
            print(f"`{' '.join(map(str, error.cmd))}` failed; its message is above", file=sys.stderr)
            code = 1
    print(f"\n{'Done' if code == 0 else 'Failed'} in {format_duration(time.monotonic() - began)}; nothing is left behind.")
    return code


if __name__ == "__main__":
    sys.exit(main())
