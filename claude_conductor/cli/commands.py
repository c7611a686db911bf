"""Which verbs are there, and how is only the one loaded that is used?"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from claude_conductor.rpc import process

DAILY: Final = "Every day"
THINGS: Final = "Things"
HELP: Final = "Help and set-up"


@dataclass(frozen=True, slots=True)
class Verb:
    """One entry of the table."""

    module: str
    """Module of this package; its `app` is a typer application."""
    short: str
    """One line for `conductor --help` and completion."""
    panel: str


TABLE: Final = {
    "start": Verb("start", "Start control plane and agents on this machine", DAILY),
    "join": Verb("join", "Run an agent of a control plane elsewhere on this machine", DAILY),
    "stop": Verb("stop", "Stop them; nothing is left", DAILY),
    "status": Verb("status", "Show what runs and how it is doing", DAILY),
    "run": Verb("run", "Give agents a task, and wait for it", DAILY),
    "apply": Verb("apply", "Submit the tasks of a file, once", DAILY),
    "merge": Verb("merge", "Land patches on a branch, one by one, each checked", DAILY),
    "logs": Verb("logs", "Show the output of a task, or the log of a program", DAILY),
    "events": Verb("events", "Show what happens, as it happens", DAILY),
    "why": Verb("why", "Say in one sentence why a task stands where it does", DAILY),
    "report": Verb("report", "Show what was done, and what there is to take", DAILY),
    "usage": Verb("usage", "Show what tasks used, by type, agent, label ...", DAILY),
    "trace": Verb("trace", "Show every step of a message or a task, with times", DAILY),
    "top": Verb("top", "Show the fleet as it is now, once a second", DAILY),
    "dashboard": Verb("dashboard", "Show the fleet in a browser, and serve the HTTP API", DAILY),
    "tasks": Verb("tasks", "List, show, answer, compare, cancel and apply tasks", THINGS),
    "schedules": Verb("schedules", "Submit tasks again and again, by cron expressions", THINGS),
    "types": Verb("types", "List and show types of tasks", THINGS),
    "agents": Verb("agents", "List and inspect agents", THINGS),
    "messages": Verb("messages", "Send and read messages", THINGS),
    "dlq": Verb("dlq", "List, show, send again and remove dead letters", THINGS),
    "tokens": Verb("tokens", "Make, list and revoke tokens", THINGS),
    "audit": Verb("audit", "List, check and export what was decided and changed", THINGS),
    "config": Verb("config", "Show, check, export and import settings", HELP),
    "certs": Verb("certs", "Show, issue and rotate certificates", HELP),
    "login": Verb("login", "Talk to a control plane on a network, with a token", HELP),
    "context": Verb("context", "Choose which control plane to talk to", HELP),
    "doctor": Verb("doctor", "Show what this host can isolate, and what to install for the rest", HELP),
    "test": Verb("trial", "Try the running set: a task and a message at each level", HELP),
    "bench": Verb("bench", "Measure this machine", HELP),
    "explain": Verb("explain", "Explain an error: cause, check, fix", HELP),
    "grpcurl": Verb("grpcurl", "Print a working grpcurl line for a method", HELP),
}


class LazyGroup(TyperGroup):
    """A group whose verbs are known by name, and imported when one is used."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - typer's own
        super().__init__(**attributes)
        for name, verb in TABLE.items():
            self.add_command(TyperCommand(name, help=verb.short, rich_help_panel=verb.panel), name)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - typer's private context
        """Return the verbs in the order of the table."""
        del ctx
        return list(TABLE)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:  # noqa: ANN401 - as above
        """Find the verb and load it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in TABLE else command, rest


def load(name: str) -> Any:  # noqa: ANN401 - a typer command or group
    """Import a verb's module and return its command, under its name."""
    process.prepare()
    module = importlib.import_module(f"claude_conductor.cli.{TABLE[name].module}")
    command = typer.main.get_command(module.app)
    command.name = name
    return command


def app(help: str, **more: Any) -> typer.Typer:  # noqa: A002, ANN401 - typer's own words
    """Return a typer application with this command line's habits."""
    return typer.Typer(
        help=help,
        add_completion=False,
        no_args_is_help=bool(more.pop("group", False)),
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode="rich",
        **more,
    )


def suggestions(word: str) -> Sequence[str]:
    """Return the verbs that begin with the word."""
    return [name for name in TABLE if name.startswith(word)]
