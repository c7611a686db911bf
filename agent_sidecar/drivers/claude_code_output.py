"""What Claude Code's stream-json output means: what it does, what it used, and its final word.

One JSON object per line; the kinds that matter are `assistant` (text and tool use, with usage so far) and `result` (totals and
the answer). Everything else is skipped, and a line that is no JSON object is shown as it is. Seen with version 2.1.330.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from agent_sidecar.drivers.driver import Answer, Observation, Progress, TokenUse
from agent_sidecar.untrusted.json_shape import (
    LARGEST_COUNT,
    Json,
    as_amount,
    as_count,
    as_object,
    as_objects,
    as_text,
    one_line,
    parse_object,
)
from agent_sidecar.untrusted.lines import Lines, TooLong
from claude_conductor.units import format_size

LONGEST_LINE = 4 << 20
"""Bytes. Longer ones carry what a tool read (images, for example); the bound is what the sidecar can spare per agent."""

_MOST_TURNS = (1 << 31) - 1
_OPEN_MESSAGES = 64
"""Messages whose usage may still change; older ones are folded into the sum."""
_SUBJECTS = ("file_path", "notebook_path", "command", "pattern", "path", "url", "query", "description", "prompt", "skill")
"""The argument that says most about a tool use, first found wins."""

_Result = tuple[bytes, list[Observation]]


class ClaudeCodeOutput:
    """Reads one run's stream-json.

    Args:
        longest_line: Bound for one line in bytes.
    """

    def __init__(self, longest_line: int = LONGEST_LINE) -> None:
        self._lines = Lines(longest_line)
        self._messages: OrderedDict[str, TokenUse] = OrderedDict()
        self._folded = TokenUse()
        self._told = TokenUse()

    def feed(self, chunk: bytes) -> _Result:
        """Take a chunk of any size; return readable lines and what they mean."""
        return self._read(self._lines.feed(chunk))

    def finish(self) -> _Result:
        """Read the last line, should it have had no newline."""
        return self._read(self._lines.finish())

    def _read(self, lines: list[bytes | TooLong]) -> _Result:
        shown = bytearray()
        observations: list[Observation] = []
        for line in lines:
            live, meaning = self._line(line)
            shown += live
            observations += meaning
        return bytes(shown), observations

    def _line(self, line: bytes | TooLong) -> _Result:
        if isinstance(line, TooLong):
            note = f"a line of {format_size(line.size)} was left out"
            return f"[{note}]\n".encode(), [Progress(note)]
        if not line.strip():
            return b"", []
        event = parse_object(line)
        if event is None:
            return line + b"\n", []
        match event.get("type"):
            case "assistant":
                return self._assistant(as_object(event.get("message")), inner=bool(event.get("parent_tool_use_id")))
            case "result":
                return self._final(event)
            case _:
                return b"", []

    def _assistant(self, message: Json, *, inner: bool) -> _Result:
        shown: list[str] = []
        observations: list[Observation] = []
        for block in as_objects(message.get("content")):
            match block.get("type"):
                case "text":
                    text = as_text(block.get("text"))
                    line = one_line(text)
                    shown.append(text)
                case "tool_use":
                    line = describe_tool_use(as_text(block.get("name")), as_object(block.get("input")))
                    shown.append(f"> {line}" if line else "")
                case _:
                    continue
            if line:
                observations.append(Progress(line))
        use = self._counted(as_text(message.get("id")), as_object(message.get("usage")), inner=inner)
        if use != self._told:
            self._told = use
            observations.append(use)
        return "".join(f"{text}\n" for text in shown if text).encode(), observations

    def _counted(self, message_id: str, usage: Json, *, inner: bool) -> TokenUse:
        """Return the totals so far. One message appears once per content block, each time with its usage so far."""
        if usage:
            self._messages[message_id] = replace(_tokens(usage), turns=0 if inner else 1)
        if len(self._messages) > _OPEN_MESSAGES:
            self._folded = _sum(self._folded, self._messages.popitem(last=False)[1])
        total = self._folded
        for use in self._messages.values():
            total = _sum(total, use)
        return total

    def _final(self, event: Json) -> _Result:
        """Read the last event: its totals replace what was counted (they hold the final output tokens and those of subagents)."""
        models = [as_object(value) for value in as_object(event.get("modelUsage")).values()]
        use = TokenUse()
        for model in models:
            use = _sum(use, _tokens(model))
        if use == TokenUse():
            use = _tokens(as_object(event.get("usage")))
        use = replace(
            use, turns=min(as_count(event.get("num_turns")), _MOST_TURNS), cost_usd=as_amount(event.get("total_cost_usd"))
        )
        self._told = use
        failed = bool(event.get("is_error")) or as_text(event.get("subtype")).startswith("error")
        answer = as_text(event.get("result")) or _complaint(event)
        return b"", [use, Answer(answer, failed=failed)]


def describe_tool_use(name: str, arguments: Json) -> str:
    """Return one line such as `Write /workspace/a.py`."""
    subject = next((text for key in _SUBJECTS if (text := as_text(arguments.get(key)))), "")
    return one_line(f"{name} {one_line(subject)}".strip())


def _complaint(event: Json) -> str:
    """Return what a result without text says about its failure: `error_max_turns`, or its list of errors."""
    errors = event.get("errors")
    told = [as_text(error) for error in errors if as_text(error)] if isinstance(errors, list) else []
    return "; ".join(told) or as_text(event.get("subtype"))


def _tokens(usage: Json) -> TokenUse:
    """Read counts as the API spells them, or as `modelUsage` does."""
    return TokenUse(
        input_tokens=_first(usage, "input_tokens", "inputTokens"),
        output_tokens=_first(usage, "output_tokens", "outputTokens"),
        cache_read_tokens=_first(usage, "cache_read_input_tokens", "cacheReadInputTokens"),
        cache_write_tokens=_first(usage, "cache_creation_input_tokens", "cacheCreationInputTokens"),
    )


def _first(usage: Json, *names: str) -> int:
    return next((as_count(usage[name]) for name in names if name in usage), 0)


def _sum(left: TokenUse, right: TokenUse) -> TokenUse:
    return TokenUse(
        input_tokens=min(left.input_tokens + right.input_tokens, LARGEST_COUNT),
        output_tokens=min(left.output_tokens + right.output_tokens, LARGEST_COUNT),
        cache_read_tokens=min(left.cache_read_tokens + right.cache_read_tokens, LARGEST_COUNT),
        cache_write_tokens=min(left.cache_write_tokens + right.cache_write_tokens, LARGEST_COUNT),
        turns=left.turns + right.turns,
        cost_usd=left.cost_usd + right.cost_usd,
    )
