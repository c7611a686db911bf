"""Do a tool call's arguments fit its schema? The part of JSON Schema that our own tools use, and defaults filled in."""

from __future__ import annotations

from typing import Any

from claude_conductor.errors import InvalidArgumentError

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
}


def fitted(schema: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments with defaults for those that are missing.

    Raises:
        InvalidArgumentError: Names the argument and what it may be.
    """
    known: dict[str, Any] = schema["properties"]
    for name in schema.get("required", ()):
        if arguments.get(name) is None:
            raise InvalidArgumentError(f"`{name}` is missing.", next_step=f"give `{name}`: {known[name]['description']}")
    for name in arguments:
        if name not in known:
            raise InvalidArgumentError(f"There is no argument `{name}`.", next_step=f"there are: {', '.join(known) or 'none'}")
    values = {name: arguments.get(name) for name in known}
    return {
        name: known[name].get("default") if value is None else _checked(f"`{name}`", known[name], value)
        for name, value in values.items()
    }


def _checked(name: str, schema: dict[str, Any], value: Any) -> Any:  # noqa: ANN401 - whatever came as JSON
    kind: str = schema["type"]
    given: Any = value  # what it is narrowed to below says nothing of its entries
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        raise _wrong(name, f"has to be of type {kind}, not {type(value).__name__}", schema)
    if "enum" in schema and value not in schema["enum"]:
        raise _wrong(name, f"has to be one of: {', '.join(schema['enum'])}", schema)
    if kind in ("integer", "number") and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        raise _wrong(name, f"has to be from {schema['minimum']} to {schema['maximum']}", schema)
    if kind == "string":
        _check_text(name, schema, str(value))
    if kind == "array":
        if len(given) > schema["maxItems"]:
            raise _wrong(name, f"has at most {schema['maxItems']} entries", schema)
        return [_checked(f"an entry of {name}", schema["items"], each) for each in given]
    return value


def _check_text(name: str, schema: dict[str, Any], value: str) -> None:
    if len(value) > schema.get("maxLength", len(value)):
        raise _wrong(name, f"has at most {schema['maxLength']} characters", schema)
    if len(value.strip()) < schema.get("minLength", 0):
        raise _wrong(name, "must not be empty", schema)
    try:
        value.encode()
    except UnicodeEncodeError as cause:
        raise _wrong(name, "holds half of a surrogate pair, which is no character", schema) from cause


def _wrong(name: str, what: str, schema: dict[str, Any]) -> InvalidArgumentError:
    described = schema.get("description", "")
    return InvalidArgumentError(f"{name} {what}.", next_step=f"correct it and call again{f' ({described})' if described else ''}")
