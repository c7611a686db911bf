"""How a dataclass of the domain becomes compact JSON, and exactly itself again.

A field that holds its default and is empty (0, "", (), {}, None, False) is left out; any other default is written, so that
changing a default in the code never changes what is stored. A field that is missing takes its default: that is how a newer
version reads what an older one wrote.
"""

from __future__ import annotations

import base64
import enum
import json
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, cast

T = TypeVar("T")

_PLAIN = (str, int, float, bool)
_JSON = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class _Codec:
    """A pair of functions for one type; None stands for "as it is"."""

    encode: Callable[[Any], Any] | None = None
    decode: Callable[[Any], Any] | None = None


def encode(value: object) -> str:
    """Return the JSON text of a dataclass."""
    to_json = _codec(cast("Hashable", type(value))).encode
    assert to_json is not None
    return _JSON(to_json(value))


def decode(kind: type[T], text: str) -> T:
    """Return the `kind` that `encode` made the text of.

    Raises:
        ValueError: The text is not JSON, or has a field that `kind` has not.
    """
    from_json = _codec(cast("Hashable", kind)).decode
    assert from_json is not None
    return cast("T", from_json(json.loads(text)))


@cache
def _codec(kind: Any) -> _Codec:  # noqa: ANN401 - a type as an annotation has it: class, NewType, union, generic alias
    if isinstance(kind, typing.NewType):
        return _codec(kind.__supertype__)
    origin = typing.get_origin(kind)
    if origin is not None:
        return _generic(origin, typing.get_args(kind))
    if kind in _PLAIN:
        return _Codec()
    if kind is bytes:
        return _Codec(lambda value: base64.b64encode(value).decode(), base64.b64decode)
    if issubclass(kind, enum.Enum):
        return _Codec(lambda member: member.value, kind)
    if is_dataclass(kind):
        return _dataclass(kind)
    raise TypeError(f"no codec for {kind}")


def _generic(origin: object, arguments: tuple[Any, ...]) -> _Codec:
    if origin in (types.UnionType, typing.Union):
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return _optional(_codec(inner))
    if origin is tuple:
        assert arguments[1:] == (Ellipsis,), "only tuples of any length"
        return _sequence(_codec(arguments[0]), tuple, list)
    if origin is frozenset:
        return _sequence(_codec(arguments[0]), frozenset, sorted)
    if origin is Mapping and _codec(arguments[0]) == _codec(arguments[1]) == _Codec():
        return _Codec(dict, None)
    raise TypeError(f"no codec for {origin}")


def _optional(inner: _Codec) -> _Codec:
    to_json, from_json = inner.encode, inner.decode
    return _Codec(
        to_json and (lambda value: None if value is None else to_json(value)),
        from_json and (lambda value: None if value is None else from_json(value)),
    )


def _sequence(inner: _Codec, build: Callable[[Any], Any], order: Callable[[Any], list[Any]]) -> _Codec:
    to_json, from_json = inner.encode, inner.decode
    return _Codec(
        order if to_json is None else lambda values: order(to_json(value) for value in values),
        build if from_json is None else lambda values: build(from_json(value) for value in values),
    )


def _dataclass(kind: Any) -> _Codec:  # noqa: ANN401 - the class itself
    hints = typing.get_type_hints(kind)
    plan = [(field.name, *_functions(hints[field.name]), _default(field)) for field in fields(kind)]
    decoders = {name: from_json for name, _, from_json, _ in plan}

    def to_json(value: object) -> dict[str, Any]:
        written = {}
        for name, to_field, _, default in plan:
            part = getattr(value, name)
            shown = part if to_field is None else to_field(part)
            if shown or part != default:
                written[name] = shown
        return written

    def from_json(written: dict[str, Any]) -> object:
        unknown = written.keys() - decoders.keys()
        if unknown:
            raise ValueError(f"{kind.__name__} has no field {min(unknown)}")
        return kind(
            **{name: part if (from_field := decoders[name]) is None else from_field(part) for name, part in written.items()}
        )

    return _Codec(to_json, from_json)


def _functions(hint: Any) -> tuple[Callable[[Any], Any] | None, Callable[[Any], Any] | None]:  # noqa: ANN401 - as above
    found = _codec(hint)
    return found.encode, found.decode


def _default(field: Field[Any]) -> object:
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else MISSING
