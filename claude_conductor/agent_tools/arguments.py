"""What does a command line of `conductor-agent` say? Its verbs and options, by the standard library alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Final, Never

from claude_conductor.errors import InvalidArgumentError
from claude_conductor.units import parse_duration

PROGRAM: Final = "conductor-agent"
_EXITS: Final = (
    "Exit codes: 0 done, 1 failed, 2 wrong use, 3 not found, 4 not allowed, 5 Conductor does not answer, "
    "6 nothing came in time, 130 interrupted. Errors are one line on standard error."
)
_ABOUT: Final = """Talk to Conductor, to other agents and to the operator from inside an agent's sandbox.

A mailbox is named by an agent id (long-running agents), task/TASK_ID (whoever works on that task), parent (the task that
submitted the present one) or operator (the human). A message can also go to topic/NAME (whoever subscribed to it) or broadcast
(everybody)."""


class _Parser(argparse.ArgumentParser):
    """Tells wrong use in one line."""

    def error(self, message: str) -> Never:
        """Leave with exit code 2."""
        sys.stderr.write(f"{self.prog}: {message}. Next: see `{self.prog} --help`.\n")
        raise SystemExit(2)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command."""
    common = _Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON instead of text")
    top = _Parser(
        prog=PROGRAM, description=_ABOUT, epilog=_EXITS, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)

    def verb(name: str, about: str) -> argparse.ArgumentParser:
        return verbs.add_parser(
            name, help=about, description=about[0].upper() + about[1:] + ".", epilog=_EXITS, parents=[common], allow_abbrev=False
        )

    _send(verb("send", "send a message; it is stored when this returns"))
    _inbox(verb("inbox", "show messages this agent has not been shown yet, oldest first"))
    _ack(verb("ack", "acknowledge messages by their positions: they are dealt with and never come again"))
    _ask(verb("ask", "ask the human in charge and wait for the answer; the task waits meanwhile"))
    _topics(verb("topics", "list the topics whose messages this agent gets, after changing them if asked to"))
    _submit(verb("submit", "submit a task as a child of the present one"))
    _task(verb("task", "show a task"))
    verb("peers", "list the agents, and the mailbox each can be written to")
    verb("self", "show who this agent is, its mailbox and its task")
    _progress(verb("progress", "show one line of progress of the present task"))
    verb("mcp", "serve these verbs as tools over MCP on standard input and output")
    return top


def _send(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("recipient", type=_text, help="agent id, task/TASK_ID, parent, operator, topic/NAME or broadcast")
    verb.add_argument("text", type=_raw, help="what to say; `-`: read it from standard input")
    verb.add_argument("--type", type=_text, default="status_update", help="what kind of message it is")
    verb.add_argument("--reply-to", type=_text, default="", metavar="ID", help="id of the message this answers")
    verb.add_argument("--subject", type=_text, default="", help="what it is about")
    verb.add_argument("--content-type", type=_text, default="text/plain; charset=utf-8", help="media type")
    verb.add_argument("--id", type=_text, default="", help="idempotency key: the same id is accepted once")
    verb.add_argument("--ephemeral", action="store_true", help="only if the recipient is there now")
    verb.add_argument("--ttl", type=_duration, default=None, metavar="TIME", help="how long it waits for its recipient (24h)")


def _inbox(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--wait", type=_duration, default=0.0, metavar="TIME", help="how long to wait for the first (0)")
    verb.add_argument("--limit", type=_number(1, 1000), default=100, metavar="N", help="at most this many (100)")
    verb.add_argument("--ack", action="store_true", help="acknowledge what is shown")


def _ack(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("positions", type=_number(1, (1 << 63) - 1), nargs="+", metavar="POSITION", help="the numbers in brackets")
    verb.add_argument("--mailbox", type=_text, default="", help="of this mailbox; the present one unless it is named")


def _ask(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("text", type=_raw, metavar="question", help="what to ask; `-`: read it from standard input")
    verb.add_argument("--option", type=_text, action="append", default=[], metavar="ANSWER", help="an answer to choose from")
    verb.add_argument(
        "--approve", type=_raw, default=None, metavar="COMMAND", help="ask whether this command or diff is allowed; `-`: read it"
    )
    verb.add_argument("--to", type=_text, default="", help="ask by message instead: parent, a mailbox, or operator")
    verb.add_argument("--timeout", type=_duration, default=600.0, metavar="TIME", help="how long to wait (10m; 24h at most)")
    verb.add_argument("--id", type=_text, default="", help="idempotency key: the same id is the same question")


def _topics(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--subscribe", type=_text, action="append", default=[], metavar="TOPIC", help="get its messages from now on"
    )
    verb.add_argument("--unsubscribe", type=_text, action="append", default=[], metavar="TOPIC", help="get them no longer")


def _submit(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "text", type=_raw, nargs="?", default=b"", metavar="prompt", help="what to do; `-`: read it from standard input"
    )
    verb.add_argument(
        "--agent", type=_text, default="", metavar="KIND", help="command, claude_code, ...; else the kind of this task"
    )
    verb.add_argument(
        "--cmd", type=_text, default="", metavar="LINE", help="for command: a shell line; {prompt} in it is the prompt"
    )
    verb.add_argument(
        "--type", type=_text, default="", help="sort of task: code_review, refactor, test_generation, analysis, ..."
    )
    verb.add_argument("--empty", action="store_true", help="begin with an empty folder, not with the files of this task")
    verb.add_argument("--on", type=_text, default="", metavar="AGENT", help="id of the one agent that shall do it")
    verb.add_argument("--after", type=_text, action="append", default=[], metavar="TASK", help="a task that has to succeed first")
    verb.add_argument(
        "--writes",
        type=_text,
        action="append",
        default=[],
        metavar="PATHS",
        help="what it may change: src/,docs/*.md; no two at once",
    )
    verb.add_argument("--model", type=_text, default="", help="name of the model")
    verb.add_argument("--timeout", type=_duration, default=None, metavar="TIME", help="how long it may take")
    verb.add_argument("--id", type=_text, default="", help="idempotency key: the same id is the same task")
    verb.add_argument("--wait", type=_duration, default=0.0, metavar="TIME", help="wait this long for its end")


def _task(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("task_id", type=_text, metavar="TASK", help="its id")
    verb.add_argument("--wait", type=_duration, default=0.0, metavar="TIME", help="wait this long for its end")


def _progress(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("text", type=_raw, help="one line, 1 KiB at most; `-`: read it from standard input")


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except InvalidArgumentError as problem:
        raise argparse.ArgumentTypeError(str(problem).rstrip(".")) from problem


def _number(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not text.isascii() or len(text) > 19 or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"a number from {least} to {most} is needed, not {text!r}")
        return int(text)

    return number


def _text(text: str) -> str:
    """Return the argument if it is text: names and prompts travel as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as cause:
        raise argparse.ArgumentTypeError("it is not valid UTF-8") from cause
    return text


def _raw(text: str) -> bytes:
    """Return the bytes of an argument (PEP 383)."""
    return text.encode("utf-8", "surrogateescape")
