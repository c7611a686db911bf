"""Where is Conductor's home, and what lies where in it?"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from claude_conductor.errors import SettingsError

DEFAULT: Final = "~/.claude-conductor"
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True, slots=True)
class Home:
    """The folder with everything of one installation."""

    path: Path

    @property
    def socket(self) -> Path:
        """Where the control plane listens."""
        return self.path / "run" / "control.sock"

    @property
    def operator_token(self) -> Path:
        """What the command line identifies itself with; readable by this user only."""
        return self.path / "run" / "operator.token"

    @property
    def config(self) -> Path:
        """The settings file that is used when none is named."""
        return self.path / "config" / "config.yaml"

    @property
    def prices(self) -> Path:
        """The user's own prices of models, if this file is there."""
        return self.path / "config" / "prices.yaml"

    @property
    def contexts(self) -> Path:
        """The named places the command line can talk to."""
        return self.path / "config" / "contexts.json"

    @property
    def joined(self) -> Path:
        """The identity that this home got when it joined a control plane elsewhere."""
        return self.path / "identity" / "joined.json"

    @property
    def logs(self) -> Path:
        """One log for each program."""
        return self.path / "logs"


def find(environment: Mapping[str, str]) -> Home:
    """Return the home of this environment: CONDUCTOR_HOME, else `~/.claude-conductor`.

    Raises:
        SettingsError: It is not an absolute path.
    """
    text = environment.get("CONDUCTOR_HOME", "").strip() or DEFAULT
    path = Path(expand(text, environment, key="CONDUCTOR_HOME"))
    if not path.is_absolute():
        raise SettingsError(
            "CONDUCTOR_HOME has to be an absolute path.", next_step="set it to a path that begins with /", value=text
        )
    return Home(Path(os.path.normpath(path)))


def expand(text: str, environment: Mapping[str, str], *, key: str) -> str:
    """Return the text with a leading `~`, `$NAME` and `${NAME}` replaced.

    Raises:
        SettingsError: A variable is not set; names the key.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in environment:
            raise SettingsError(f"`{key}` uses the variable {name}, which is not set.", value=text)
        return environment[name]

    if text == "~" or text.startswith("~/"):
        text = (environment.get("HOME") or str(Path.home())) + text[1:]
    return _VARIABLE.sub(value, text)


def expand_path(text: str, home: Home, environment: Mapping[str, str], *, key: str) -> Path:
    """Return the absolute path that a setting names; one below `~/.claude-conductor` follows CONDUCTOR_HOME.

    Raises:
        SettingsError: It is not absolute, or uses a variable that is not set.
    """
    if text == DEFAULT or text.startswith(DEFAULT + "/"):
        return home.path / text[len(DEFAULT) + 1 :]
    path = Path(expand(text, environment, key=key))
    if not path.is_absolute():
        raise SettingsError(f"`{key}` has to be an absolute path, or begin with ~ or a variable.", value=text)
    return Path(os.path.normpath(path))
