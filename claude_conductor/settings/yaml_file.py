"""What does a YAML file say, and in which line does it say it? The only module that knows PyYAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from claude_conductor.errors import SettingsError

Key = tuple[str | int, ...]
"""A place in a document: names of keys and numbers of list entries."""

LARGEST: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Text:
    """A parsed document."""

    source: str
    """The file's path, or `standard input`."""
    values: Mapping[str, Any]
    lines: Mapping[Key, int]
    """Place -> line, from 1."""


def read(path: Path, what: str = "settings", next_step: str = "name another") -> Text:
    """Read a file; `what` is the word for its content in errors, `next_step` what helps if it is not there.

    Raises:
        SettingsError: It cannot be read, is no YAML, or its top is no mapping.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(LARGEST + 1)
    except OSError as cause:
        raise SettingsError(f"The {what} file cannot be read: {cause.strerror}.", next_step=next_step, file=path) from cause
    return parse(raw, str(path), what)


def parse(raw: bytes, source: str, what: str = "settings") -> Text:
    """Parse a document; an empty one has no values. `what` is the word for its content in errors.

    Raises:
        SettingsError: It is larger than 1 MiB, no YAML, has a key twice, or its top is no mapping.
    """
    if len(raw) > LARGEST:
        raise SettingsError(f"A {what} file has at most 1 MiB.", file=source)
    try:
        loader = yaml.SafeLoader(raw.decode("utf-8"))
        try:
            node = loader.get_single_node()
            lines: dict[Key, int] = {}
            if node is not None:
                _walk(node, (), lines, source)
            values = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except UnicodeDecodeError as cause:
        raise SettingsError(f"The {what} are no UTF-8 text.", file=source) from cause
    except (yaml.YAMLError, ValueError, RecursionError) as cause:
        raise SettingsError(f"The {what} are no YAML: {_problem(cause)}.", file=source, line=_line(cause)) from cause
    if values is None:
        return Text(source, {}, {})
    if not isinstance(values, dict):
        raise SettingsError(
            f"{what.capitalize()} are keys with values, such as `{'num_agents: 4' if what == 'settings' else 'tasks: [...]'}`.",
            file=source,
            line=1,
        )
    return Text(source, values, lines)


def dump(values: Any) -> str:  # noqa: ANN401 - whatever JSON can hold
    """Return plain values as YAML, in their order."""
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=False))


def _walk(node: yaml.Node, place: Key, lines: dict[Key, int], source: str) -> None:
    """Note the line of every place, and refuse keys that are no text or come twice."""
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise SettingsError("A key has to be a word.", file=source, line=line)
            inner = (*place, str(key.value))
            if inner in lines:
                raise SettingsError(
                    f"The key `{key.value}` is there twice, first in line {lines[inner]}.",
                    next_step="keep one of the two",
                    file=source,
                    line=line,
                )
            lines[inner] = line
            _walk(value, inner, lines, source)
    elif isinstance(node, yaml.SequenceNode):
        for index, entry in enumerate(node.value):
            _walk(entry, (*place, index), lines, source)


def _problem(cause: Exception) -> str:
    if isinstance(cause, yaml.MarkedYAMLError):
        return ", ".join(part for part in (cause.context, cause.problem) if part)
    return "it is nested too deeply" if isinstance(cause, RecursionError) else str(cause).splitlines()[0]


def _line(cause: Exception) -> int | str:
    mark = cause.problem_mark if isinstance(cause, yaml.MarkedYAMLError) else None
    return mark.line + 1 if mark else "unknown"
