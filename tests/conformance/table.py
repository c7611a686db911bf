"""What is a conformance case, and does an answer fit what it expects? Values in, values out."""

from __future__ import annotations

import base64
import re
import uuid
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

TABLE = Path(__file__).with_name("cases.yaml")
_NAME = re.compile(r"\$(\w+)\Z")
_INSIDE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Case:
    """A list of steps with a sentence of what they show."""

    name: str
    steps: tuple[dict[str, Any], ...]

    @property
    def roles(self) -> frozenset[str]:
        """Who makes calls in it."""
        return frozenset(step["by"] for step in self.steps if "by" in step)


@cache
def cases() -> tuple[Case, ...]:
    """Return the table."""
    found = yaml.safe_load(TABLE.read_text())
    return tuple(Case(name, tuple(steps)) for name, steps in found.items())


class MismatchError(AssertionError):
    """An answer is not what a step expects."""


@dataclass
class Names:
    """What the `$names` of one run of a case stand for."""

    values: dict[str, Any] = field(default_factory=dict)

    def fill(self, value: Any) -> Any:
        """Return a request with its names filled in; a name nobody knows yet is a new message id."""
        if isinstance(value, dict):
            if set(value) == {"$bytes"}:
                return base64.b64encode(b"x" * value["$bytes"]).decode()
            if set(value) == {"$letters"}:
                return "x" * value["$letters"]
            return {key: self.fill(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.fill(inner) for inner in value]
        if isinstance(value, str):
            if found := _NAME.match(value):
                return self.values.setdefault(found[1], f"msg_{uuid.uuid4().hex}")
            return _INSIDE.sub(lambda found: str(self.values[found[1]]), value)
        return value

    def fit(self, expected: Any, actual: Any, place: str = "answer") -> None:
        """Check an answer; a name nobody knows yet becomes what stands in its place.

        Raises:
            MismatchError: With the place that does not fit.
        """
        if isinstance(expected, dict) and set(expected) == {"$some"}:
            self._some(expected["$some"], actual, place)
        elif isinstance(expected, dict) and "$bytes" not in expected:
            _demand(isinstance(actual, dict), place, expected, actual)
            for key, inner in expected.items():
                self.fit(inner, actual.get(key), f"{place}.{key}")
        elif isinstance(expected, list):
            _demand(isinstance(actual, list) and len(actual) == len(expected), place, expected, actual)
            for index, inner in enumerate(expected):
                self.fit(inner, actual[index], f"{place}[{index}]")
        elif isinstance(expected, str) and (found := _NAME.match(expected)) and found[1] not in self.values:
            _demand(actual is not None, place, expected, actual)
            self.values[found[1]] = actual
        else:
            _demand(actual == self.fill(expected), place, self.fill(expected), actual)

    def _some(self, expected: Any, actual: Any, place: str) -> None:
        for inner in actual or []:
            attempt = Names(dict(self.values))
            try:
                attempt.fit(expected, inner, place)
            except MismatchError:
                continue
            self.values = attempt.values
            return
        _demand(False, place, f"an element like {expected}", actual)


def _demand(fits: bool, place: str, expected: Any, actual: Any) -> None:
    if not fits:
        raise MismatchError(f"{place}: expected {_short(expected)}, got {_short(actual)}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 400 else f"{text[:200]} ... {len(text)} characters"
