"""Resolved settings from one program to the next: frozen dataclasses as JSON over a descriptor, never as a file or argument."""

from __future__ import annotations

import dataclasses
import enum
import json
import os
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from claude_conductor.errors import SettingsError
from claude_conductor.settings.secret import Secret

_Settings = TypeVar("_Settings")


def to_plain(value: object) -> Any:  # noqa: ANN401 - JSON has no narrower type
    """Return the value as what JSON can hold, secrets included: for a descriptor between our own processes only."""
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): to_plain(item) for name, item in value.items()}
    if isinstance(value, (tuple, list, frozenset, set)):
        return [to_plain(item) for item in value]
    return value


def from_plain(kind: type[_Settings], plain: Mapping[str, Any]) -> _Settings:
    """Return the dataclass that `to_plain` took apart; missing keys take their defaults.

    Raises:
        SettingsError: A key is unknown or missing, or a value has the wrong shape.
    """
    hints = typing.get_type_hints(kind)
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # every caller passes a dataclass
    if unknown := set(plain) - names:
        raise SettingsError("The handed-over settings have a key this version does not know.", keys=", ".join(sorted(unknown)))
    try:
        return kind(**{name: _build(hints[name], value) for name, value in plain.items()})
    except (TypeError, ValueError, KeyError, AttributeError) as cause:
        raise SettingsError(f"The handed-over settings do not fit {kind.__name__}: {cause}") from cause


def _build(hint: Any, value: Any) -> Any:  # noqa: ANN401 - the hint says what it is
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _build(next(kind for kind in arguments if kind is not type(None)), value)
    if origin is tuple:
        return tuple(_build(arguments[0], item) for item in value)
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return {name: _build(arguments[1], item) for name, item in value.items()}
    if isinstance(hint, typing.NewType):
        return _build(hint.__supertype__, value)
    if dataclasses.is_dataclass(hint):
        return from_plain(typing.cast("type[Any]", hint), value)
    if isinstance(hint, type) and (issubclass(hint, (enum.Enum, Path)) or hint is Secret):
        return hint(value)
    if hint is float:
        return float(value)
    if isinstance(hint, type) and not isinstance(value, hint):
        raise TypeError(f"expected {hint.__name__}, got {type(value).__name__}")
    return value


def read_descriptor(kind: type[_Settings], descriptor: int) -> _Settings:
    """Read settings to the end of a descriptor and close it.

    Raises:
        SettingsError: It holds no JSON object that fits.
    """
    with os.fdopen(descriptor, "rb") as stream:
        text = stream.read()
    try:
        plain = json.loads(text)
    except ValueError as cause:
        raise SettingsError("The handed-over settings are no JSON.") from cause
    if not isinstance(plain, dict):
        raise SettingsError("The handed-over settings are no JSON object.")
    return from_plain(kind, plain)
