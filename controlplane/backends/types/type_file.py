"""What does the file of a task type say?

A file is Markdown, `NAME.md`: between two lines `---` at its head keys with values (YAML), then the template.
"""

from __future__ import annotations

import difflib
from typing import Any, Final

from claude_conductor.errors import ConductorError, InvalidArgumentError, SettingsError
from claude_conductor.units import parse_count, parse_duration, parse_money
from controlplane.domain.budget import Budget
from controlplane.domain.task import IsolationLevel
from controlplane.domain.task_type import PROMPT, TaskType

BUDGETS: Final = ("budget_time", "budget_turns", "budget_tokens", "budget_usd")
LARGEST: Final = 64 << 10
"""Bytes of a file."""
_FENCE: Final = "---"
KEYS: Final = ("about", "priority", "timeout", "attempts", "level", *BUDGETS)


def parse(name: str, raw: bytes, source: str) -> TaskType:
    """Return a type.

    Args:
        name: Of the type.
        raw: The file.
        source: Its path, for messages.

    Raises:
        SettingsError: It is too large or no UTF-8, a key is unknown or has a wrong value, or the prompt has no place in it.
    """
    if len(raw) > LARGEST:
        raise SettingsError("The file of a task type has at most 64 KiB.", file=source)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as cause:
        raise SettingsError("The file of a task type is UTF-8 text.", file=source) from cause
    head, template = _split(text, source)
    values, lines = _read(head, source) if head.strip() else ({}, {})
    if PROMPT not in template:
        raise SettingsError(
            "The template has no place for the prompt.", next_step=f"write {PROMPT} where it belongs", file=source
        )

    def refuse(key: str, what: str) -> SettingsError:
        return SettingsError(f"`{key}` is {what}.", next_step="correct it", file=source, line=lines.get(key, 1))

    unknown = next((key for key in values if key not in KEYS), None)
    if unknown is not None:
        near = difflib.get_close_matches(unknown, KEYS, n=1, cutoff=0.0)[0]
        raise SettingsError(
            f"Unknown key `{unknown}`.", next_step=f"the nearest valid one is `{near}`", file=source, line=lines.get(unknown, 1)
        )
    return TaskType(
        name=name,
        template=template,
        about=" ".join(str(values.get("about", "")).split()),
        priority=_number(values, "priority", 10, refuse),
        timeout=_seconds(values, refuse),
        max_attempts=_number(values, "attempts", 100, refuse),
        isolation_level=_level(values, refuse),
        budget=_budget(values, refuse),
    )


def _split(text: str, source: str) -> tuple[str, str]:
    """Return the head, with an empty line for its first fence so that lines keep their numbers, and the template."""
    lines = text.splitlines(keepends=True)
    if not lines or lines[0].strip() != _FENCE:
        return "", text
    for index, line in enumerate(lines[1:], start=1):
        if line.strip() == _FENCE:
            return "\n" + "".join(lines[1:index]), "".join(lines[index + 1 :])
    raise SettingsError("The keys at the head of the file have no end.", next_step=f"add a line {_FENCE}", file=source, line=1)


def _read(head: str, source: str) -> tuple[dict[str, Any], dict[str, int]]:
    from claude_conductor.settings import yaml_file  # noqa: PLC0415 - 1 MB that a control plane with plain types does without

    text = yaml_file.parse(head.encode(), source)
    return dict(text.values), {str(place[0]): line for place, line in text.lines.items() if len(place) == 1}


def _number(values: dict[str, Any], key: str, most: int, refuse: Any) -> int:  # noqa: ANN401 - makes the error
    value = values.get(key, 0)
    if key in values and (type(value) is not int or not 1 <= value <= most):
        raise refuse(key, f"a whole number from 1 to {most}")
    return int(value)


def _seconds(values: dict[str, Any], refuse: Any) -> float:  # noqa: ANN401 - as above
    if "timeout" not in values:
        return 0.0
    try:
        seconds = parse_duration(values["timeout"])
    except (InvalidArgumentError, TypeError) as cause:
        raise refuse("timeout", "a duration such as 30m") from cause
    if not seconds:
        raise refuse("timeout", "above 0")
    return seconds


def _budget(values: dict[str, Any], refuse: Any) -> Budget:  # noqa: ANN401 - as above
    parsers = zip(BUDGETS, (parse_duration, parse_count, parse_count, parse_money), strict=True)
    found: dict[str, Any] = {}
    for key, parse in parsers:
        if key not in values:
            continue
        try:
            found[key] = parse(values[key])
        except (InvalidArgumentError, TypeError) as cause:
            raise refuse(key, "a budget, such as 20m, 30, 200k or 2.50") from cause
        if not found[key]:
            raise refuse(key, "above 0")
    return Budget(*(found.get(key) for key in BUDGETS))


def _level(values: dict[str, Any], refuse: Any) -> IsolationLevel | None:  # noqa: ANN401 - as above
    if "level" not in values:
        return None
    try:
        return IsolationLevel(str(values["level"]).strip().lower())
    except ValueError as cause:
        raise refuse("level", "strict, moderate or minimal") from cause


def problem(error: ConductorError) -> str:
    """Return an error about a file in one line, with file and line."""
    where = ":".join(filter(None, (error.details.get("file", ""), error.details.get("line", ""))))
    return f"{where}: {error.message} {error.next_step}" if where else f"{error.message} {error.next_step}"
