"""The supervisor with real processes: tiny programs stand for control plane and sidecars."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from claude_conductor.errors import AlreadyRunningError, HomeUnusableError, NotRunningError, SettingsError, StartFailedError
from claude_conductor.supervisor import cgroups, control, processes
from claude_conductor.supervisor.processes import Identity
from claude_conductor.supervisor.state import Condition, Phase

PROGRAM = """
import json, os, signal, subprocess, sys, time
words = sys.argv[1:]
descriptors = {words[i]: int(words[i + 1]) for i in range(len(words) - 1) if words[i].startswith('--')}
with open(descriptors['--settings-fd']) as file:
    settings = json.load(file)
out = settings['out']
def note(name: str, value):
    with open(f'{out}.new', 'w') as file:
        json.dump(value, file)
    os.replace(f'{out}.new', f'{out}.{name}')
def end(number, frame):
    sys.exit(0)
if settings.get('deaf'):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, end)
if settings.get('fork'):
    note('grandchild', subprocess.Popen(['sleep', '60']).pid)
note('settings', {'settings': settings, 'argv': words, 'environment': dict(os.environ), 'pid': os.getpid(),
                  'fds': sorted(int(n) for n in os.listdir('/proc/self/fd'))})
if 'exit' in settings:
    print('the key `colour` is unknown', flush=True)
    sys.exit(settings['exit'])
if settings.get('listen'):
    with os.fdopen(descriptors['--supervision-fd']) as channel, open(f'{out}.lines', 'a') as lines:
        for line in channel:
            lines.write(line)
            lines.flush()
while True:
    signal.pause()
"""


def wait_for(look: Callable[[], Any], seconds: float = 5.0):
    """Return the first truthy answer of `look`; fail after a deadline."""
    deadline = time.monotonic() + seconds
    while not (answer := look()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.005)
    return answer


class Set:
    """A set-up in a temporary home, and what its programs wrote down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = str(folder / "home")
        self.script = folder / "program.py"
        self.script.write_text(PROGRAM)
        self.restart = {"first_delay": 0.02, "max_delay": 0.1, "reset_after": 30}
        self.grace = 5.0
        self.sidecars = {}
        self.control_plane = self.program("controlplane")

    def program(self, name: str, **settings: object):
        return {
            "argv": [sys.executable, "-S", "-E", str(self.script)],
            "environment": {"PATH": os.environ["PATH"], "MARK": name},
            "settings": {"out": str(self.folder / name), **settings},
        }

    def add(self, agent_id: str, **settings: object):
        self.sidecars[agent_id] = self.program(agent_id, **settings)
        return self

    def document(self):
        return {
            "home": self.home,
            "programs": {
                "controlplane": self.control_plane,
                "sidecars": [{"agent_id": agent_id, **program} for agent_id, program in self.sidecars.items()],
            },
            "restart": self.restart,
            "grace": self.grace,
        }

    def launch(self):
        return control.launch(self.document(), self.home)

    def noted(self, name: str, what: str = "settings"):
        path = self.folder / f"{name}.{what}"
        return wait_for(lambda: path.exists() and json.loads(path.read_text()))

    def state(self):
        state = control.running(self.home)
        assert state is not None
        return state

    def child(self, name: str):
        return next(child for child in self.state().children if child.name == name)

    def restarted(self, name: str, times: int = 1):
        return wait_for(lambda: (child := self.child(name)).restarts >= times and child.pid and child)

    def identities(self):
        state = self.state()
        return [Identity(state.pid, state.start_time), *(Identity(child.pid, child.start_time) for child in state.children)]

    def lines(self):
        path = self.folder / "controlplane.lines"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def fleet(tmp_path: Path):
    fleet = Set(tmp_path)
    yield fleet
    with contextlib.suppress(NotRunningError):
        control.stop(fleet.home, timeout=0.2)


def gone(identities: Iterable[Identity]):
    return not any(processes.alive(identity) for identity in identities)


def identity_of(pid: int):
    start_time = processes.start_time(pid)
    assert start_time is not None
    return Identity(pid, start_time)


def test_settings_and_tokens_arrive_by_descriptor_only(fleet: Set):
    fleet.add("a", secret="canary-7431").add("b")

    pid = fleet.launch()

    noted, plane = fleet.noted("a"), fleet.noted("controlplane")
    token = noted["settings"]["token"]
    assert len(token) == 43  # 256 bit in base64
    assert noted["settings"]["secret"] == "canary-7431"
    assert noted["settings"]["token"] != fleet.noted("b")["settings"]["token"]
    assert plane["settings"]["sidecar_tokens"]["a"] == hashlib.sha256(token.encode()).hexdigest()
    operator = Path(fleet.home, "run", "operator.token")
    assert plane["settings"]["operator_token_sha256"] == hashlib.sha256(operator.read_text().strip().encode()).hexdigest()
    assert operator.stat().st_mode & 0o777 == 0o600
    assert "--supervision-fd" in plane["argv"]
    assert "--supervision-fd" not in noted["argv"]
    assert set(noted["environment"]) - {"LC_CTYPE"} == {"PATH", "MARK"}
    assert len(noted["fds"]) <= 4  # 0, 1, 2 and the listing itself: nothing of the supervisor's leaked
    written = [path.read_text() for path in Path(fleet.home).rglob("*") if path.is_file()]
    seen = [Path(f"/proc/{each}/{what}").read_text() for each in (pid, noted["pid"]) for what in ("cmdline", "environ")]
    assert not [text for text in written + seen if token in text or "canary-7431" in text]


def test_the_operators_token_survives_a_restart_of_the_set(fleet: Set):
    fleet.launch()
    first = Path(fleet.home, "run", "operator.token").read_text()
    control.stop(fleet.home)

    fleet.launch()

    assert Path(fleet.home, "run", "operator.token").read_text() == first


def test_a_killed_program_is_started_again_with_the_same_token(fleet: Set):
    fleet.add("a")
    fleet.launch()
    before = fleet.noted("a")

    os.kill(before["pid"], signal.SIGKILL)
    child = fleet.restarted("sidecar-a")

    after = wait_for(lambda: (noted := fleet.noted("a"))["pid"] != before["pid"] and noted)
    assert after["pid"] == child.pid
    assert after["settings"]["token"] == before["settings"]["token"]
    assert child.last_exit.cause == "signal 9 (SIGKILL)"
    assert control.running(fleet.home).state is Phase.RUNNING


def test_a_program_that_keeps_failing_is_tried_ever_more_rarely(fleet: Set):
    fleet.restart = {"first_delay": 0.1, "max_delay": 60, "reset_after": 30}
    fleet.add("a", exit=1)
    began = time.monotonic()
    fleet.launch()

    wait_for(lambda: fleet.child("sidecar-a").restarts == 3)
    assert time.monotonic() - began >= 0.1 + 0.2 + 0.4


def test_a_program_that_cannot_be_started_is_reported_and_tried_again(fleet: Set):
    fleet.add("a")
    fleet.sidecars["a"]["argv"] = [str(fleet.folder / "missing")]
    fleet.launch()

    child = wait_for(lambda: (child := fleet.child("sidecar-a")).restarts >= 1 and child)

    assert child.last_exit.cause.startswith("cannot be started: ")
    assert child.last_exit.returncode is None


def test_a_refused_configuration_stays_down_and_says_why(fleet: Set):
    fleet.add("a", exit=78).add("b")
    fleet.launch()

    child = wait_for(lambda: (child := fleet.child("sidecar-a")).state is Condition.FAILED and child)
    os.kill(fleet.child("sidecar-b").pid, signal.SIGKILL)  # something that makes the loop turn
    fleet.restarted("sidecar-b")

    assert child.last_exit.log == ("the key `colour` is unknown",)
    assert child.last_exit.returncode == 78
    assert fleet.child("sidecar-a").restarts == 0
    assert fleet.child("sidecar-a").pid is None


def test_stop_leaves_no_process_and_no_state(fleet: Set):
    fleet.add("a", fork=True).add("b")
    fleet.launch()
    grandchild = identity_of(fleet.noted("a", "grandchild"))
    everybody = [*fleet.identities(), grandchild]
    assert not gone(everybody)
    fleet.noted("b")
    fleet.noted("controlplane")

    stopped = control.stop(fleet.home)

    assert gone([*everybody[:-1]])
    wait_for(lambda: gone([grandchild]))
    assert stopped.killed == ()
    assert not Path(fleet.home, "run", "supervisor.json").exists()
    assert control.running(fleet.home) is None
    with pytest.raises(NotRunningError):
        control.stop(fleet.home)


def test_a_second_start_is_refused_with_the_pid_of_the_first(fleet: Set):
    pid = fleet.launch()

    with pytest.raises(AlreadyRunningError) as caught:
        fleet.launch()

    assert caught.value.details["pid"] == str(pid)
    assert fleet.state().pid == pid


def test_of_many_starts_at_once_exactly_one_wins(fleet: Set):
    command = [sys.executable, "-m", "claude_conductor.supervisor", "--setup-fd", "0", "--detach"]
    starts = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(5)
    ]
    for start in starts:
        start.stdin.write(json.dumps(fleet.document()).encode())
        start.stdin.close()

    answers = []
    for start in starts:
        answers.append(json.loads(start.stdout.read()))
        start.stdout.close()
        start.wait(timeout=10)

    assert sorted("pid" in answer for answer in answers) == [False] * 4 + [True]
    assert {answer["error"] for answer in answers if "error" in answer} == {"AlreadyRunningError"}


def test_the_set_ends_in_order_when_its_supervisor_is_killed(fleet: Set):
    fleet.add("a")
    pid = fleet.launch()
    fleet.noted("a")
    fleet.noted("controlplane")
    everybody = fleet.identities()

    os.kill(pid, signal.SIGKILL)

    wait_for(lambda: gone(everybody))
    assert control.running(fleet.home) is None


def test_a_start_after_a_killed_supervisor_ends_what_it_left(fleet: Set):
    fleet.grace = 0.1
    fleet.add("a", deaf=True)
    first = fleet.launch()
    fleet.noted("a")
    deaf = identity_of(fleet.child("sidecar-a").pid)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: control.running(fleet.home) is None)
    assert processes.alive(deaf)

    second = fleet.launch()

    assert second != first
    assert not processes.alive(deaf)
    assert fleet.child("sidecar-a").pid != deaf.pid


def test_a_stop_after_a_killed_supervisor_ends_what_it_left(fleet: Set):
    fleet.add("a", deaf=True)
    pid = fleet.launch()
    fleet.noted("a")
    deaf = identity_of(fleet.child("sidecar-a").pid)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: control.running(fleet.home) is None)

    stopped = control.stop(fleet.home)

    assert "sidecar-a" in stopped.killed
    assert not processes.alive(deaf)


def test_a_deaf_program_is_killed_after_the_grace(fleet: Set):
    fleet.grace = 0.3
    fleet.add("a", deaf=True, fork=True)
    fleet.launch()
    fleet.noted("a")
    everybody = [*fleet.identities(), identity_of(fleet.noted("a", "grandchild"))]
    began = time.monotonic()

    stopped = control.stop(fleet.home)

    assert 0.3 <= time.monotonic() - began < 2.0
    assert stopped.killed == ()  # the supervisor did it, in its order
    wait_for(lambda: gone(everybody))


def test_a_second_term_shortens_the_grace_to_nothing(fleet: Set):
    fleet.grace = 60.0
    fleet.add("a", deaf=True)
    pid = fleet.launch()
    fleet.noted("a")
    everybody = fleet.identities()

    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: fleet.state().state is Phase.STOPPING)
    os.kill(pid, signal.SIGTERM)

    wait_for(lambda: gone(everybody))
    assert not Path(fleet.home, "run", "supervisor.json").exists()


def test_a_stuck_supervisor_is_killed_with_its_set(fleet: Set):
    fleet.add("a", deaf=True)
    pid = fleet.launch()
    fleet.noted("a")
    everybody = fleet.identities()
    os.kill(pid, signal.SIGSTOP)

    stopped = control.stop(fleet.home, timeout=0.2)

    assert stopped.killed[0] == "supervisor"
    assert gone(everybody)
    assert not Path(fleet.home, "run", "supervisor.json").exists()


def test_hangup_is_ignored(fleet: Set):
    fleet.add("a")
    pid = fleet.launch()
    os.kill(pid, signal.SIGHUP)
    os.kill(fleet.noted("a")["pid"], signal.SIGKILL)

    fleet.restarted("sidecar-a")

    assert fleet.state().pid == pid


def test_what_a_dead_program_left_in_its_group_is_killed(fleet: Set):
    fleet.add("a", fork=True)
    fleet.launch()
    left = identity_of(fleet.noted("a", "grandchild"))

    os.kill(fleet.noted("a")["pid"], signal.SIGKILL)

    wait_for(lambda: gone([left]))


@pytest.fixture
def innocent():
    """A process that has nothing to do with any set."""
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield process
    process.kill()
    process.wait(timeout=5)


@pytest.mark.parametrize("pid", ["dead", "reused"])
def test_a_stale_state_is_not_mistaken_for_a_running_set(fleet: Set, innocent: subprocess.Popen[bytes], pid: str):
    fleet.launch()
    path = Path(fleet.home, "run", "supervisor.json")
    document = json.loads(path.read_text())
    control.stop(fleet.home)
    if pid == "reused":  # a living process, but not the one that was started then
        document["pid"] = document["children"][0]["pid"] = innocent.pid
    path.write_text(json.dumps(document))

    assert control.running(fleet.home) is None
    with pytest.raises(NotRunningError):
        control.stop(fleet.home)
    path.write_text(json.dumps(document))
    assert fleet.launch() == fleet.state().pid
    assert innocent.poll() is None


def test_an_unusable_home_is_refused_by_name(fleet: Set):
    Path(fleet.home).write_text("a file, not a folder")

    with pytest.raises(HomeUnusableError) as caught:
        fleet.launch()

    assert caught.value.details["path"] == fleet.home


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere; needs an ordinary user")
def test_an_unwritable_home_is_refused(fleet: Set):
    Path(fleet.home).mkdir(mode=0o500)

    with pytest.raises(HomeUnusableError):
        fleet.launch()


def test_a_set_up_that_lacks_a_key_is_refused_by_the_supervisor_itself(fleet: Set):
    document = fleet.document()
    del document["restart"]["max_delay"]

    with pytest.raises(SettingsError) as caught:
        control.launch(document, fleet.home)

    assert caught.value.details["key"] == "restart.max_delay"


def test_a_supervisor_that_cannot_begin_says_why(fleet: Set):
    with pytest.raises(StartFailedError) as caught:
        control.launch(fleet.document(), fleet.home, prefix=[sys.executable, "-c", "raise SystemExit('no bus')"])

    assert "no bus" in caught.value.details["last_lines"]


def test_the_control_plane_hears_of_every_sidecar(fleet: Set):
    fleet.control_plane["settings"]["listen"] = True
    fleet.add("a").add("b")
    fleet.launch()
    first = fleet.noted("a")["pid"]
    began = wait_for(lambda: len(fleet.lines()) == 2 and fleet.lines())
    assert [(line["event"], line["agent_id"]) for line in began] == [("sidecar_started", "a"), ("sidecar_started", "b")]

    os.kill(first, signal.SIGKILL)

    died, again = wait_for(lambda: len(fleet.lines()) == 4 and fleet.lines())[2:]
    assert died == {"event": "sidecar_exited", "agent_id": "a", "incarnation_pid": first, "cause": "signal 9 (SIGKILL)"}
    assert again["event"] == "sidecar_started"
    assert again["incarnation_pid"] != first


def test_a_new_control_plane_is_told_which_sidecars_there_are(fleet: Set):
    fleet.control_plane["settings"]["listen"] = True
    fleet.add("a").add("down", exit=78)
    fleet.launch()
    wait_for(lambda: len(fleet.lines()) == 3)
    (fleet.folder / "controlplane.lines").unlink()

    os.kill(fleet.noted("controlplane")["pid"], signal.SIGKILL)

    lines = wait_for(lambda: len(fleet.lines()) == 2 and fleet.lines())
    assert {(line["agent_id"], line["event"]) for line in lines} == {("a", "sidecar_started"), ("down", "sidecar_exited")}
    assert fleet.child("sidecar-a").restarts == 0


def test_a_control_plane_that_never_reads_holds_nothing_up(fleet: Set):
    fleet.restart = {"first_delay": 0.0, "max_delay": 0.0, "reset_after": 30}
    fleet.add("loop", exit=1).add("a")
    pid = fleet.launch()
    wait_for(lambda: fleet.child("sidecar-loop").restarts >= 25, seconds=10)  # more lines than the kernel's buffer holds

    os.kill(fleet.noted("a")["pid"], signal.SIGKILL)

    fleet.restarted("sidecar-a")
    assert control.stop(fleet.home).pid == pid


def test_an_idle_supervisor_sleeps(fleet: Set):
    fleet.add("a")
    pid = fleet.launch()
    fleet.noted("a")
    fleet.noted("controlplane")

    def switches():
        status = Path(f"/proc/{pid}/status").read_text()
        return next(line for line in status.splitlines() if line.startswith("voluntary_ctxt_switches"))

    before = switches()
    time.sleep(0.5)  # the time itself is what is measured
    assert switches() == before


def test_a_resident_supervisor_is_small(fleet: Set):
    pid = fleet.add("a").launch()

    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()

    sizes = {line.split(":")[0]: int(line.split()[1]) for line in rollup.splitlines() if line.startswith(("Rss", "Pss:"))}
    assert sizes["Rss"] <= 14 * 1024


@pytest.fixture
def group():
    """A cgroup of our own, removed in the end."""
    for folder in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/cpu"):
        group = Path(folder, f"conductor-supervisor-test-{os.getpid()}")
        with contextlib.suppress(OSError):
            group.mkdir()
        if (group / "cgroup.procs").exists():
            break
        if group.is_dir():  # the tmpfs that v1 hierarchies are mounted on
            group.rmdir()
    else:
        pytest.skip("no cgroup hierarchy that this user may write to")
    yield group
    cgroups.kill((str(group),) if group.exists() else (), bound=2.0)


def test_what_a_dead_sidecar_left_in_its_cgroups_is_killed(fleet: Set, group: Path, innocent: subprocess.Popen[bytes]):
    fleet.add("a")
    fleet.launch()
    (group / "cgroup.procs").write_text(str(innocent.pid))  # out of the sidecar's process group, in its cgroup
    listed = Path(fleet.home, "run", "agents", "a", "cgroups")
    listed.parent.mkdir(parents=True)
    listed.write_text(f"{group}\n/sys/fs/cgroup\n")

    os.kill(fleet.noted("a")["pid"], signal.SIGKILL)

    assert innocent.wait(timeout=5) == -signal.SIGKILL
    wait_for(lambda: not group.exists())
