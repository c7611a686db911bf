"""Which settings hold here? Flags over CONDUCTOR_* variables over context over file over defaults, each value with its origin."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableVariableError

from claude_conductor.errors import SettingsError
from claude_conductor.settings import retired, yaml_file
from claude_conductor.settings.origin import Layer, Origin, Place, Rank, merge
from claude_conductor.settings.schema import Document, MessageRule, NamedAgent, keys

_PASSWORD: Final = re.compile(r"(://[^:@?#]*):[^?#]*@")
_HIDDEN: Final = r"\1:***@"
PREFIX: Final = "CONDUCTOR_"
OTHER_VARIABLES: Final = frozenset(
    PREFIX + name for name in ("HOME", "CONFIG", "CONTEXT", "ADDRESS", "TOKEN", "SOCKET", "OUTPUT", "BUBBLEWRAP")
)
"""Variables that are no settings of the file."""


class _Variables(Document, BaseSettings):
    """The document as pydantic-settings reads it from variables; never built itself."""

    model_config = SettingsConfigDict(extra="ignore", env_prefix=PREFIX, env_nested_delimiter="__", frozen=True)


class _Environment(EnvSettingsSource):
    """Reads the variables it is given, not the process's."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._given = {name.lower(): value for name, value in environment.items()}
        super().__init__(_Variables)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._given


@dataclass(frozen=True, slots=True)
class Loaded:
    """Checked settings, and where they come from."""

    document: Document
    origins: Mapping[Place, Origin]
    """Only places that somebody set."""
    warnings: tuple[str, ...] = ()

    def origin(self, key: str) -> Origin:
        """Return where a dotted key's value comes from."""
        return self.origins.get(tuple(key.split(".")), Origin(Rank.DEFAULT))

    def written(self) -> dict[str, Any]:
        """Return what somebody set, as it was written and in the order of the schema: what an export holds."""
        return self.document.model_dump(mode="json", exclude_unset=True)


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything settings can come from."""

    file: yaml_file.Text | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    context_name: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    """Dotted key -> its value and the flag that says it."""


def read_file(path: Path, *, required: bool) -> yaml_file.Text | None:
    """Return the file, or None if it is missing and was not asked for by name.

    Raises:
        SettingsError: It cannot be read or is no YAML.
    """
    if not required and not path.exists():
        return None
    return yaml_file.read(path, next_step="name another with --config")


def load(sources: Sources) -> Loaded:
    """Merge and check.

    Raises:
        SettingsError: A key is unknown or a value cannot be used; names key, source and line, and the nearest valid key.
    """
    warnings: list[str] = []
    layers = [*_file_layer(sources.file), *_context_layer(sources), _environment_layer(sources.environment, warnings)]
    layers.append(_flag_layer(sources.flags))
    layers = [_without_retired(layer, warnings) for layer in layers]
    values, origins = merge(layers)
    try:
        document = Document.model_validate(values)
    except ValidationError as cause:
        raise _complaint(cause.errors(), origins) from cause
    _check_agents(document, origins)
    return Loaded(document, origins, tuple(warnings))


def _file_layer(text: yaml_file.Text | None) -> list[Layer]:
    if text is None:
        return []
    return [Layer(Rank.FILE, text.values, {place: f"{text.source}:{line}" for place, line in text.lines.items()})]


def _context_layer(sources: Sources) -> list[Layer]:
    return [Layer(Rank.CONTEXT, sources.context, {(): sources.context_name})] if sources.context else []


def _flag_layer(flags: Mapping[str, tuple[Any, str]]) -> Layer:
    values: dict[str, Any] = {}
    places: dict[Place, str] = {}
    for key, (value, flag) in flags.items():
        *blocks, name = key.split(".")
        inner = values
        for block in blocks:
            inner = inner.setdefault(block, {})
        inner[name] = value
        places[tuple(key.split("."))] = flag
    return Layer(Rank.FLAG, values, places)


def _environment_layer(environment: Mapping[str, str], warnings: list[str]) -> Layer:
    ours = {name: value for name, value in environment.items() if name.upper().startswith(PREFIX) and name not in OTHER_VARIABLES}
    known = keys()
    for name in ours:
        key = name[len(PREFIX) :].lower().replace("__", ".")
        if key not in known and not key.startswith(("agent.labels.", "tasks.concurrency.")):
            warnings.append(f"the variable {name} is no setting and does nothing; {_meant(key, known, as_variable=True)}")
    try:
        values = _Environment(ours)()
    except UnreadableVariableError as cause:
        raise SettingsError(
            f"A CONDUCTOR_ variable cannot be read: {cause}.", next_step="lists and blocks are written as JSON"
        ) from cause
    names = {name.lower(): name for name in ours}
    places: dict[Place, str] = {}
    for key in known:
        if (variable := names.get(f"{PREFIX}{key.replace('.', '__')}".lower())) is not None:
            places[tuple(key.split("."))] = variable
    return Layer(Rank.ENVIRONMENT, values, places)


def _without_retired(layer: Layer, warnings: list[str]) -> Layer:
    """Return the layer without keys that no longer act; each is warned about once."""
    known = keys()

    def keep(values: Mapping[str, Any], place: Place) -> dict[str, Any]:
        kept = {}
        for name, value in values.items():
            inner = (*place, name)
            key = ".".join(map(str, inner))
            if key not in known and isinstance(value, Mapping) and any(old.startswith(f"{key}.") for old in retired.SUCCESSORS):
                if rest := keep(value, inner):
                    kept[name] = rest
            elif key not in known and (instead := retired.successor(key)) is not None:
                origin = layer.origin(inner)
                successor = (
                    f"; use {instead}"
                    if not instead.startswith("nothing")
                    else f", and {instead.replace(':', ' took its place:')}"
                )
                warnings.append(f"{origin}: `{key}` no longer acts{successor}")
            elif isinstance(value, Mapping) and known.get(key) is not None:
                kept[name] = keep(value, inner)
            else:
                kept[name] = value
        return kept

    return Layer(layer.rank, keep(layer.values, ()), layer.places)


def _complaint(errors: Sequence[ErrorDetails], origins: Mapping[Place, Origin]) -> SettingsError:
    """Return one error that names every problem, each with its key and place."""
    sentences = [_sentence(error, origins) for error in errors]
    first = f"{sentences[0]}." if len(sentences) == 1 else f"{len(sentences)} things are wrong: " + "; ".join(sentences) + "."
    return SettingsError(first)


def _sentence(error: ErrorDetails, origins: Mapping[Place, Origin]) -> str:
    place = error["loc"]
    key = _dotted(place)
    where = _origin(place, origins)
    if error["type"] == "extra_forbidden":
        return f"unknown key `{key}` ({where}); {_meant(key, _siblings(place))}"
    reason = error["msg"].removeprefix("Value error, ").rstrip(".")
    if error["type"] in ("model_type", "model_attributes_type", "dict_type"):
        reason = "a block of keys with values is needed"
    value = "" if isinstance(error["input"], dict | list) else f", not `{_PASSWORD.sub(_HIDDEN, str(error['input']))}`"
    return f"`{key}` ({where}): {reason[:1].lower()}{reason[1:]}{value}"


def _dotted(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _origin(place: Place, origins: Mapping[Place, Origin]) -> Origin:
    for length in range(len(place), 0, -1):
        if place[:length] in origins:
            return origins[place[:length]]
    return Origin(Rank.DEFAULT)


def _siblings(place: Place) -> list[str]:
    if len(place) > 1 and place[0] == "agents":
        return [f"agents[{place[1]}].{name}" for name in NamedAgent.model_fields]
    if place[:2] == ("policy", "messages") and len(place) > 2:
        rule = f"policy.messages[{place[2]}]"
        return [f"{rule}.{name}" for name in keys(MessageRule)]
    return list(keys())


def _meant(key: str, valid: Sequence[str] | Mapping[str, object], *, as_variable: bool = False) -> str:
    """Return the nearest valid key in words: by the whole key first, then by its last word anywhere."""
    candidates = list(valid)
    near = difflib.get_close_matches(key, candidates, n=1, cutoff=0.75)
    if not near:
        by_word = {candidate.rpartition(".")[2]: candidate for candidate in reversed(candidates)}
        near = [by_word[word] for word in difflib.get_close_matches(key.rpartition(".")[2], by_word, n=1)]
    if not near:
        near = difflib.get_close_matches(key, candidates, n=1, cutoff=0.0)
    nearest = PREFIX + near[0].replace(".", "__").upper() if as_variable else near[0]
    return f"the nearest valid one is `{nearest}`" if not as_variable else f"the nearest one is {nearest}"


def _check_agents(document: Document, origins: Mapping[Place, Origin]) -> None:
    plain = {f"agent-{number}" for number in range(1, document.num_agents + 1)}
    seen: set[str] = set()
    for index, agent in enumerate(document.agents):
        where = _origin(("agents", index, "id"), origins)
        if agent.id in seen or agent.id in plain:
            raise SettingsError(f"`agents[{index}].id` ({where}): another agent is called `{agent.id}` already.")
        seen.add(agent.id)
        if agent.driver == "grpc_agent" and not agent.command:
            raise SettingsError(f"`agents[{index}]` ({where}): a grpc_agent needs a `command`, its long-running program.")
    if not plain and not seen:
        raise SettingsError(f"`num_agents` ({_origin(('num_agents',), origins)}): at least one agent is needed.")
