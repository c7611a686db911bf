"""The command line as a process of its own, against a control plane on a real socket."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from claude_conductor import errors
from claude_conductor.v1 import agent_pb2, event_pb2, message_pb2, message_service_pb2, task_pb2
from tests.fakes.operator_services import TOKEN, World, fail, serving_in_a_thread, succeed
from tests.fakes.repository import git as git_in

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(180)


class CommandLine:
    """Runs `conductor` in a home of its own."""

    def __init__(self, home: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CONDUCTOR_", "OTEL_", "ANTHROPIC_"))}
        self.home = home
        self.environment = {**kept, "CONDUCTOR_HOME": str(home), "PYTHONPATH": str(ROOT), "HOME": str(home.parent)}

    def start(self, *arguments: str, **more: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "claude_conductor.cli.main", *arguments],
            env=self.environment,
            cwd=self.home.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,  # type: ignore[call-overload]
        )

    def __call__(self, *arguments: str, code: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run it to its end and check its exit code, and that nobody sees a traceback or a colour in a pipe."""
        with self.start(*arguments) as process:
            try:
                out, err = process.communicate(stdin, timeout=50)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert process.returncode == code, (arguments, process.returncode, out, err)
        assert "Traceback" not in out + err
        assert "\x1b" not in out + err
        if code not in (0, 1, 130):
            assert "error: " in err
            assert "next: " in err
        return subprocess.CompletedProcess(arguments, code, out, err)


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cc-") as folder:
        yield Path(folder)


@pytest.fixture
def conductor(place: Path) -> CommandLine:
    return CommandLine(place / "home")


@pytest.fixture
def world(conductor: CommandLine) -> Iterator[World]:
    """A control plane that the command line finds."""
    made = World(finish=succeed)
    made.agents = [agent_pb2.Agent(agent_id=f"agent-{n}", state=agent_pb2.AGENT_STATE_IDLE, drivers=["command"]) for n in (1, 2)]
    with serving_in_a_thread(conductor.home / "run/control.sock", made):
        (conductor.home / "run/operator.token").write_text(TOKEN)
        yield made


def test_the_version_and_the_help_need_no_control_plane(conductor: CommandLine):
    assert conductor("--version").stdout.startswith("conductor 0.")
    assert "Exit codes" in conductor("-h").stdout
    for verb in (
        "start",
        "run",
        "tasks",
        "types",
        "apply",
        "report",
        "usage",
        "messages",
        "dlq",
        "trace",
        "why",
        "config",
        "doctor",
        "test",
        "explain",
        "grpcurl",
        "context",
    ):
        assert "Usage" in conductor(verb, "-h").stdout, verb


def test_a_folder_that_is_no_repository_fails_before_anything_is_submitted(conductor: CommandLine, place: Path):
    (place / "plain").mkdir()

    assert "git init" in conductor("run", "x", "--repo", str(place / "plain"), code=1).stderr


def test_what_is_not_there_exits_3_and_says_where_to_look(conductor: CommandLine, world: World):
    assert "tasks list" in conductor("tasks", "show", "task_none", code=3).stderr
    assert "agents list" in conductor("agents", "inspect", "nobody", code=3).stderr
    assert "tasks list" in conductor("logs", "task_none", code=3).stderr
    assert "tasks list" in conductor("tasks", "apply", "task_none", code=3).stderr


def test_a_wrong_token_exits_4(conductor: CommandLine, world: World):
    conductor.environment["CONDUCTOR_TOKEN"] = "wrong"

    assert "token" in conductor("tasks", "list", code=4).stderr


def test_a_dead_socket_exits_5_with_its_address(conductor: CommandLine):
    conductor.environment["CONDUCTOR_ADDRESS"] = "unix:/nowhere.sock"

    assert "/nowhere.sock" in conductor("messages", "send", "agent-1", "x", code=5).stderr


def test_an_error_of_the_control_plane_is_told_with_its_advice(conductor: CommandLine, world: World):
    world.failures = [errors.StoreUnavailableError("The disk is full.", next_step="free some space")]

    done = conductor("tasks", "submit", "x", code=5)
    assert "The disk is full." in done.stderr
    assert "free some space" in done.stderr


def test_run_shows_result_patch_and_usage(conductor: CommandLine, world: World):
    done = conductor("run", "do it", "--agent", "scripted", "-n", "2", "--label", "a=b", "--priority", "7", "--timeout", "5m")

    assert done.stdout.count("succeeded on agent-1") == 2
    assert done.stdout.count("2 files, +10 -3") == 2
    assert "cpu" in done.stdout
    first, second = world.submitted
    assert first.request_id != second.request_id
    assert (first.spec.priority, first.spec.labels["a"], first.spec.timeout.seconds) == (7, "b", 300)
    names = conductor("run", "again", "--agent", "scripted", "-o", "name").stdout.split()
    assert names == [f"task_{3:032x}"]
    assert json.loads(conductor("run", "again", "--agent", "scripted", "-o", "json").stdout)[0]["result"]["summary"] == "all done"


def test_a_task_for_an_agent_nobody_knows_is_refused_and_not_left_to_wait_for_ever(conductor: CommandLine, world: World):
    assert "agents list" in conductor("run", "x", "--agent", "scripted", "--on", "nobody", code=3).stderr
    assert not world.submitted


def test_an_id_may_be_copied_from_a_table_that_cut_it(conductor: CommandLine, world: World):
    task = conductor("run", "x", "--agent", "scripted", "-o", "name").stdout.strip()

    assert task in conductor("tasks", "show", f"{task}…").stdout


def test_why_says_in_one_sentence_why_a_task_stands_where_it_does(conductor: CommandLine, world: World):
    first = conductor("run", "x", "--agent", "scripted", "--detach", "-o", "name").stdout.strip()
    second = conductor("run", "y", "--agent", "scripted", "--detach", "-o", "name").stdout.strip()
    world.tasks[first].reason = "waits for agent-1 to be free"
    world.tasks[second].state = task_pb2.TASK_STATE_BLOCKED
    world.tasks[second].spec.depends_on.append(first)

    assert conductor("why", first).stdout == f"{first} is queued: waits for agent-1 to be free\n"
    told = f"is blocked: it waits for {first}, which is queued (waits for agent-1 to be free)"
    assert conductor("why", second).stdout == f"{second} {told}\n"
    assert json.loads(conductor("why", second, "-o", "json").stdout) == {"task_id": second, "state": "blocked", "why": told}
    assert "tasks list" in conductor("why", "task_ffffffffffffffff", code=3).stderr


def test_run_fails_if_a_task_does(conductor: CommandLine, world: World):
    world.finish = fail

    assert "exit code 3" in conductor("run", "x", "--agent", "scripted", code=1).stdout


def test_run_reads_its_prompt_from_standard_input_and_its_tasks_from_a_file(conductor: CommandLine, world: World, place: Path):
    conductor("run", "-", "--detach", stdin="from the pipe")
    (place / "t.yaml").write_text("tasks:\n- prompt: one\n- {prompt: two, type: analysis}\n")
    world.types += [task_pb2.TaskType(name="refactor"), task_pb2.TaskType(name="analysis")]
    conductor("tasks", "submit", "-f", str(place / "t.yaml"), "--type", "refactor")

    assert [(each.spec.prompt, each.spec.type) for each in world.submitted] == [
        ("from the pipe", ""),
        ("one", "refactor"),
        ("two", "analysis"),
    ]


def test_run_that_waits_too_long_exits_6_and_says_how_to_come_back(conductor: CommandLine, world: World):
    world.finish = None

    done = conductor("run", "x", "--agent", "scripted", "--wait-timeout", "200ms", code=6)
    assert "tasks wait task_" in done.stderr


def test_interrupting_run_leaves_the_task_running_and_exits_130(conductor: CommandLine, world: World):
    world.finish = None
    with conductor.start("run", "x", "--agent", "scripted") as process:
        deadline = time.monotonic() + 20
        while not world.opened:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)

    assert process.returncode == 130, (out, err)
    assert "tasks wait task_" in err
    assert "Traceback" not in err
    [task] = world.tasks.values()
    assert task.state == task_pb2.TASK_STATE_QUEUED


def test_run_hands_its_trace_on(conductor: CommandLine, world: World):
    conductor.environment["TRACEPARENT"] = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    conductor("tasks", "submit", "x")

    assert [each["traceparent"] for each in world.metadata if "traceparent" in each] == [conductor.environment["TRACEPARENT"]]


def test_status_and_lists_are_tables_json_and_names(conductor: CommandLine, world: World):
    assert "store memory" in conductor("status").stdout
    assert json.loads(conductor("status", "-o", "json").stdout)["store"] == "memory"
    assert conductor("agents", "list", "-o", "name").stdout.split() == ["agent-1", "agent-2"]
    assert "agent-1" in conductor("agents", "inspect", "agent-1").stdout
    assert "no tasks" in conductor("tasks", "list").stdout
    conductor("tasks", "submit", "look at\x1b[31m this", "--agent", "scripted")
    assert "look at" in conductor("tasks", "list").stdout
    assert "scripted" in conductor("tasks", "show", f"task_{1:032x}").stdout


def test_output_goes_to_the_streams_it_came_from(conductor: CommandLine, world: World):
    task = conductor("tasks", "submit", "x", "-o", "name").stdout.strip()
    world.output = [("stdout", b"to out\n"), ("stderr", b"to err\n"), ("stdout", b"\xff\n")]

    for command in (("logs", task), ("tasks", "output", task)):
        with conductor.start(*command, errors="surrogateescape") as process:
            out, err = process.communicate(timeout=20)
        assert out.encode(errors="surrogateescape") == b"to out\n\xff\n"
        assert err == "to err\n"


def test_a_reader_that_goes_away_is_no_error_worth_a_traceback(conductor: CommandLine, world: World):
    task = conductor("tasks", "submit", "x", "-o", "name").stdout.strip()
    world.output = [("stdout", b"x" * 65536)] * 40
    with conductor.start("logs", task) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(20) in (0, 1)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_a_patch_is_printed_and_put_on_a_branch(conductor: CommandLine, world: World, place: Path):
    repo = place / "repo"
    repo.mkdir()
    git = partial(git_in, repo)
    git("init", "-q", "-b", "main")
    (repo / "a").write_text("1\n")
    git("add", ".")
    git("commit", "-qm", "first")
    (repo / "a").write_text("2\n")
    world.artefacts["art_patch"] = (git("diff") + "\n").encode()
    git("checkout", "-q", "a")
    git("config", "user.name", "T")
    git("config", "user.email", "t@example.invalid")
    task = conductor("run", "make it two", "--agent", "scripted", "--repo", str(repo), "-o", "name").stdout.strip()
    world.tasks[task].result.base_commit = git("rev-parse", "HEAD")

    assert conductor("tasks", "patch", task).stdout == world.artefacts["art_patch"].decode()
    assert f"conductor/{task}" in conductor("tasks", "apply", task).stdout
    assert git("show", f"conductor/{task}:a") == "2"
    assert "make it two" in git("log", "-1", "--format=%B", f"conductor/{task}")
    assert (repo / "a").read_text() == "1\n"
    assert "there already" in conductor("tasks", "apply", task, code=1).stderr
    assert conductor("tasks", "diff", task).stdout == world.artefacts["art_patch"].decode()
    assert conductor("tasks", "diff", task, "--stat").stdout.splitlines() == ["+1 -1  a", "1 file, +1 -1"]
    world.tasks[task].result.base_commit = "1" * 40
    assert "--repo" in conductor("tasks", "apply", task, "--branch", "b", code=1).stderr
    world.tasks[task].result.patch_artefact_id = ""
    assert "changed nothing" in conductor("tasks", "diff", task, code=3).stderr


def test_cancelling_says_the_state_and_repeating_it_on_an_ended_task_fails(conductor: CommandLine, world: World):
    first, second = (conductor("tasks", "submit", "x", "-o", "name").stdout.strip() for _ in range(2))
    world.tasks[second].state = task_pb2.TASK_STATE_SUCCEEDED

    assert "cancelled" in conductor("tasks", "cancel", first, "--reason", "enough").stdout
    assert "tasks show" in conductor("tasks", "cancel", second, code=1).stderr


def dead_letters(world: World) -> None:
    world.dead = [
        message_pb2.MessageRecord(
            message_id=f"msg_{number}",
            sender="operator",
            recipient=f"agent-{number}",
            state=message_pb2.MESSAGE_STATE_DEAD,
            attempts=5,
            redrives=number - 1,
            reason="delivered 5 times without an acknowledgement",
            last_error="exit code 7\x1b[31m",
        )
        for number in (1, 2)
    ]


def test_dead_letters_are_listed_and_shown(conductor: CommandLine, world: World):
    assert conductor("dlq", "list").stdout == "no dead letters\n"
    dead_letters(world)
    listed = conductor("dlq", "list").stdout
    assert "msg_1" in listed
    assert "exit code 7" in listed
    assert "msg_1" not in conductor("dlq", "list", "--recipient", "agent-2").stdout
    assert conductor("dlq", "list", "-o", "name").stdout.split() == ["msg_1", "msg_2"]
    assert json.loads(conductor("dlq", "list", "-o", "json").stdout)[0]["last_error"].startswith("exit code 7")
    shown = conductor("dlq", "show", "msg_2").stdout
    assert "delivered 5 times" in shown
    assert "sent again: once" in shown
    assert "is acked" in conductor("dlq", "show", "msg_9", code=1).stderr
    assert "cut by a table" in conductor("dlq", "show", "msg_9…", code=2).stderr


def test_dead_letters_are_sent_again_and_removed(conductor: CommandLine, world: World):
    assert "--all" in conductor("dlq", "redrive", code=2).stderr
    assert "--all --recipient agent-1" in conductor("dlq", "purge", "--recipient", "agent-1", code=2).stderr
    assert "--all" in conductor("dlq", "purge", "msg_1", "--all", code=2).stderr
    assert "no dead letters" in conductor("dlq", "redrive", "--all").stdout
    dead_letters(world)
    assert "sent again" in conductor("dlq", "redrive", "msg_1").stdout
    assert "no dead letter" in conductor("dlq", "redrive", "msg_1", code=1).stderr
    assert "1 sent again, 1 not" in conductor("dlq", "redrive", "msg_1", "msg_2", code=1).stderr
    dead_letters(world)
    assert json.loads(conductor("dlq", "redrive", "--all", "-o", "json").stdout) == [
        {"message_id": "msg_2"},
        {"message_id": "msg_1"},
    ]
    dead_letters(world)
    assert "--yes" in conductor("dlq", "purge", "--all", code=2).stderr
    assert len(world.dead) == 2
    assert "removed" in conductor("dlq", "purge", "--all", "--yes", "--to", "agent-1").stdout
    assert [record.message_id for record in world.dead] == ["msg_2"]


def test_a_purge_of_everything_asks_on_a_terminal(conductor: CommandLine, world: World):
    for answer, code, left in (("n", 1, 2), ("y", 0, 0)):
        dead_letters(world)
        ours, theirs = os.openpty()
        os.write(ours, f"{answer}\n".encode())
        done = subprocess.run(
            [sys.executable, "-m", "claude_conductor.cli.main", "dlq", "purge", "--all"],
            env=conductor.environment,
            cwd=conductor.home.parent,
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        os.close(ours)
        os.close(theirs)
        assert (done.returncode, len(world.dead)) == (code, left), done
        assert "Remove 2 dead letters for good?" in done.stderr


def test_the_shell_offers_ids_of_dead_letters_only(conductor: CommandLine, world: World):
    dead_letters(world)
    conductor.environment |= {"_CONDUCTOR_COMPLETE": "complete_bash", "COMP_WORDS": "conductor dlq show msg_", "COMP_CWORD": "3"}
    assert conductor().stdout.split() == ["msg_1", "msg_2"]


def test_messages_are_watched_until_ctrl_c(conductor: CommandLine, world: World):
    envelope = message_pb2.Envelope(id="msg_9", type="answer", data=b"fine\x1b[0m", data_content_type="text/plain")
    world.mailbox = [message_service_pb2.ReceivedMessage(sender="agent/agent-1", position=9, envelope=envelope)]
    world.gap = event_pb2.Gap(**{"from": 1, "to": 3})
    with conductor.start("messages", "watch", "--after", "3", "--ack") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "9  agent/agent-1  answer  fine�[0m\n"
        deadline = time.monotonic() + 20
        while world.acknowledged != [9] and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert "positions 1 to 3" in err
    assert "Traceback" not in err
    assert world.acknowledged == [9]
    assert "--after" in conductor("messages", "watch", "--after", "-1", code=2).stderr


def test_a_trace_shows_every_step_and_how_long_it_took(conductor: CommandLine, world: World):
    states = [message_pb2.MESSAGE_STATE_ACCEPTED, message_pb2.MESSAGE_STATE_SEEN, message_pb2.MESSAGE_STATE_SEEN]
    hops = [
        message_pb2.MessageHop(state=state, time={"seconds": 1_800_000_000 + 2 * number, "nanos": 500_000_000})  # type: ignore[arg-type]
        for number, state in enumerate([*states, message_pb2.MESSAGE_STATE_DEAD])
    ]
    dead_letters(world)
    world.dead[0].hops.extend(hops)
    world.dead[0].envelope.correlation_id = "msg_question"
    lines = conductor("trace", "msg_1").stdout.splitlines()
    steps = [line.split()[2:5] for line in lines if ".500" in line]
    assert steps == [
        ["accepted", "stored"],
        ["+2.0", "s", "seen"],
        ["+2.0", "s", "seen"],
        ["+2.0", "s", "dead"],
    ]
    assert "exit code 7" in lines[-1]
    assert any("msg_question" in line for line in lines)
    (traced,) = json.loads(conductor("trace", "msg_1", "-o", "json").stdout)
    assert [step["after_seconds"] for step in traced["steps"]] == [None, 2.0, 2.0, 2.0]
    assert "`msg_` or `task_`" in conductor("trace", "nonsense", code=2).stderr


def test_a_task_is_traced_from_the_event_log(conductor: CommandLine, world: World):
    task = conductor("run", "x", "--agent", "scripted", "-o", "name").stdout.strip()
    assert "not" not in conductor("trace", task, "-o", "name").stdout
    assert "event log" in conductor("trace", task).stdout
    for cursor, kind in ((1, "task.queued"), (2, "task.running")):
        moment = {"seconds": 1_800_000_000 + cursor}
        world.events.append(event_pb2.Event(cursor=cursor, time=moment, type=kind, task_id=task, summary=kind))  # type: ignore[arg-type]
    traced = conductor("trace", task).stdout
    assert "task.queued" in traced
    assert "+1.0 s" in traced


def test_messages_are_sent_shown_fetched_and_acknowledged(conductor: CommandLine, world: World, place: Path):
    (place / "big").write_bytes(b"\x00binary")
    conductor("messages", "send", "agent-1", "hello", "--type", "question", "--ttl", "1h")
    conductor("messages", "send", "agent-1", "--file", str(place / "big"))
    envelope = message_pb2.Envelope(id="msg_9", type="answer", data=b"fine\x1b[0m", data_content_type="text/plain")
    world.mailbox = [message_service_pb2.ReceivedMessage(sender="agent/agent-1", position=9, envelope=envelope)]

    assert world.sent[0].envelope.data == b"hello"
    assert world.sent[0].time_to_live.seconds == 3600
    assert world.sent[1].envelope.data == b"\x00binary"
    assert "fine" in conductor("messages", "fetch").stdout
    assert world.acknowledged == []
    conductor("messages", "fetch", "--ack")
    assert world.acknowledged == [9]
    assert "acked" in conductor("messages", "show", "msg_9").stdout
    assert "accepted" in conductor("messages", "list", "--to", "agent-1").stdout


def test_a_question_shows_its_answer(conductor: CommandLine, world: World):
    assert "because" in conductor("messages", "ask", "agent-1", "why?", "--timeout", "2m").stdout
    assert (world.asked[0].envelope.data, world.asked[0].timeout.seconds) == (b"why?", 120)
    assert conductor("messages", "ask", "agent-1", "why?", "-o", "name").stdout.strip() == "msg_9"


def test_a_question_outlives_a_restart_of_the_control_plane_and_is_asked_once(conductor: CommandLine, world: World):
    world.breaking = 2

    assert "because" in conductor("messages", "ask", "agent-1", "why?", "--timeout", "20s").stdout
    assert len(world.asked) == 3
    (only,) = {asked.envelope.id for asked in world.asked}
    assert only.startswith("msg_")
    world.breaking = 100
    assert "does not answer" in conductor("messages", "ask", "agent-1", "why?", "--timeout", "700ms", code=5).stderr


def test_topics_are_subscribed_to_written_to_and_listed(conductor: CommandLine, world: World):
    world.page = 1
    for topic in ("news", "more"):
        conductor("messages", "subscribe", topic)
    assert conductor("messages", "topics", "-o", "name").stdout.split() == ["news", "more"]
    conductor("messages", "unsubscribe", "more")
    assert "operator" in conductor("messages", "topics", "news").stdout
    assert "no subscriptions" in conductor("messages", "topics", "more").stdout
    told = conductor("messages", "send", "topic/news", "hello")
    assert "recipients" in told.stdout
    assert "next:" not in told.stderr
    assert "conductor messages topics" in conductor("messages", "send", "topic/empty", "hello").stderr


def test_events_end_with_what_happened_unless_they_are_followed(conductor: CommandLine, world: World):
    world.events = [event_pb2.Event(cursor=n, type="task.queued", task_id="task_1", summary=f"number {n}") for n in (1, 2)]

    assert "number 2" in conductor("events").stdout
    lines = conductor("events", "-o", "json", "--after", "1").stdout.splitlines()
    assert [json.loads(line)["event"]["cursor"] for line in lines] == ["2"]


def test_logs_of_programs_are_readable_or_raw(conductor: CommandLine):
    logs = conductor.home / "logs"
    logs.mkdir(parents=True)
    (logs / "controlplane.log").write_text('{"time": "T", "level": "info", "message": "ready", "port": 3}\nplain\x1b[31m\n')
    (logs / "sidecar-agent-1.log").write_text('{"message": "hello"}\n')

    assert conductor("logs").stdout == "T info    ready port=3\nplain [31m\n"
    assert conductor("logs", "--component", "agent-1").stdout == " info    hello\n"
    assert conductor("logs", "--component", "sidecar-agent-1", "--raw").stdout == '{"message": "hello"}\n'
    assert "controlplane" in conductor("logs", "--component", "controlplan", code=2).stderr


def test_settings_are_shown_with_their_origin_checked_exported_and_imported(conductor: CommandLine, place: Path):
    file = place / "s.yaml"
    file.write_text("container_config:\n  memory_limit: 2g\nnum_agents: 3\nmax_workers: 4\n")
    conductor.environment["CONDUCTOR_NUM_AGENTS"] = "7"
    conductor.environment["ANTHROPIC_API_KEY"] = "sk-canary"

    shown = conductor("config", "show", "--show-origin", "--config", str(file))
    assert f"file {file}:2" in shown.stdout
    assert "environment CONDUCTOR_NUM_AGENTS" in shown.stdout
    assert "max_workers" in shown.stderr
    exported = conductor("config", "export", "--config", str(file)).stdout
    assert "sk-canary" not in exported
    del conductor.environment["CONDUCTOR_NUM_AGENTS"]
    conductor("config", "import", stdin=exported)
    again = conductor("config", "export").stdout
    assert [line for line in again.splitlines() if not line.startswith("#")] == [
        line for line in exported.splitlines() if not line.startswith("#")
    ]
    assert "7" in conductor("config", "show").stdout
    conductor("config", "import", str(file))
    assert (conductor.home / "config/config.yaml.before").exists()
    assert "valid" in conductor("config", "validate").stdout
    file.write_text("num_agent: 3\n")
    for command in (("config", "validate", str(file)), ("config", "import", str(file)), ("start", "--config", str(file))):
        said = conductor(*command, code=2).stderr
        assert f"{file}:1" in said
        assert "num_agents" in said
    assert "num_agents: 3" in (conductor.home / "config/config.yaml").read_text()


def test_contexts_choose_whom_to_talk_to(conductor: CommandLine, world: World, place: Path):
    other = CommandLine(place / "other")
    conductor_token = conductor.home / "run/operator.token"
    other("context", "add", "work", "--address", f"unix:{conductor.home}/run/control.sock", "--token-file", str(conductor_token))

    other("status", code=5)
    assert "store memory" in other("--context", "work", "status").stdout
    other("context", "use", "work")
    assert "store memory" in other("status").stdout
    assert "* " in other("context", "list").stdout
    other("context", "use", "local")
    other("status", code=5)
    assert "--replace" in other("context", "add", "work", "--address", "unix:/x", code=2).stderr


def test_every_reason_can_be_explained(conductor: CommandLine):
    listed = {row["reason"] for row in json.loads(conductor("explain", "-o", "json").stdout)}

    assert listed == {error.reason for error in errors.ALL}
    assert "doctor" in conductor("explain", "isolation-refused").stdout


def test_a_grpcurl_line_has_address_header_and_descriptors(conductor: CommandLine, world: World):
    line = conductor("grpcurl", "TaskService/ListTasks", "-d", '{"page_size": 1}').stdout

    assert line.startswith("grpcurl ")
    assert "claude_conductor.v1.TaskService/ListTasks" in line
    assert f"unix://{conductor.home}/run/control.sock" in line
    assert "$(cat" in line
    assert TOKEN not in line


def test_completion_offers_verbs_and_live_ids(conductor: CommandLine, world: World):
    def offered(words: str) -> str:
        conductor.environment |= {
            "_CONDUCTOR_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        with conductor.start() as process:
            return process.communicate(timeout=20)[0]

    conductor("tasks", "submit", "x")
    assert "status" in offered("conductor sta").split()
    assert f"task_{1:032x}" in offered("conductor tasks show task_")
    assert offered("conductor agents inspect a").split() == ["agent-1", "agent-2"]


def test_a_terminal_gets_colours_unless_told_not_to(conductor: CommandLine):
    def on_a_terminal(more: Mapping[str, str]) -> bytes:
        parent, child = os.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "claude_conductor.cli.main", "status"],
            env={**conductor.environment, **more},
            stderr=child,
            stdout=child,
            stdin=child,
        ) as process:
            process.wait(20)
        os.close(child)
        said = os.read(parent, 65536)
        os.close(parent)
        return said

    assert b"\x1b[31merror:" in on_a_terminal({})
    assert b"\x1b" not in on_a_terminal({"NO_COLOR": "1"})
