"""Where is the control plane, and as whom do we call it? Argument over environment over context over the home's own socket."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_conductor.errors import SettingsError
from claude_conductor.settings.home import Home, expand, find
from claude_conductor.settings.secret import Secret


@dataclass(frozen=True, slots=True)
class Place:
    """A control plane to talk to."""

    address: str
    """gRPC address, such as `unix:/path`."""
    token: Secret
    local: bool
    """Whether it is the set of this home, which `conductor start` starts."""
    trust: bytes = b""
    """Roots of its authority, PEM; empty on a Unix socket, and for one with a certificate of a public authority."""


@dataclass(frozen=True, slots=True)
class Context:
    """A named place, and settings that go with it."""

    name: str
    address: str = ""
    """Empty: this home's own control plane."""
    token_file: str = ""
    settings: Mapping[str, Any] | None = None
    """Values for keys of the settings file."""
    trust_file: str = ""
    """Roots of its authority, PEM; empty: the system's."""


def resolve(environment: Mapping[str, str], *, address: str = "", token: str = "") -> Place:
    """Find address and token.

    Raises:
        SettingsError: The context in use is unknown, or its token file cannot be read.
    """
    home = find(environment)
    context = current(home, environment)
    wanted = address or environment.get("CONDUCTOR_ADDRESS", "") or context.address
    secret = token or environment.get("CONDUCTOR_TOKEN", "")
    if not secret and context.token_file:
        secret = _read_token(Path(expand(context.token_file, environment, key="token_file")), required=True)
    local = not wanted or wanted.startswith("unix:")
    if local:  # what opens this home is nobody else's business
        secret = secret or _read_token(home.operator_token, required=False)
    trust = environment.get("CONDUCTOR_TRUST_FILE", "") or ("" if address else context.trust_file)
    roots = b"" if local or not trust else _read_roots(Path(expand(trust, environment, key="trust_file")))
    return Place(wanted or f"unix:{home.socket}", Secret(secret), local=not wanted, trust=roots)


def current(home: Home, environment: Mapping[str, str]) -> Context:
    """Return the context in use: CONDUCTOR_CONTEXT, else the one chosen with `conductor context use`, else an empty one.

    Raises:
        SettingsError: It is not known.
    """
    chosen, contexts = read_contexts(home)
    name = environment.get("CONDUCTOR_CONTEXT", "") or chosen
    if not name or (name == "local" and name not in contexts):
        return Context("local")
    if name not in contexts:
        raise SettingsError(
            "There is no context of this name.", next_step="`conductor context list` shows the contexts there are", context=name
        )
    return contexts[name]


def read_contexts(home: Home) -> tuple[str, dict[str, Context]]:
    """Return the name of the chosen context (empty: none) and every context there is.

    Raises:
        SettingsError: The file is damaged.
    """
    try:
        plain = json.loads(home.contexts.read_text(encoding="utf-8"))
        return str(plain["current"]), {name: Context(name, **entry) for name, entry in plain["contexts"].items()}
    except (FileNotFoundError, NotADirectoryError):  # the second: a home that cannot be one, which is said elsewhere
        return "", {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as cause:
        raise SettingsError(
            "The file of contexts cannot be read.", next_step="correct or remove it", file=home.contexts, cause=cause
        ) from cause


def write_contexts(home: Home, chosen: str, contexts: Mapping[str, Context]) -> None:
    """Replace the file of contexts."""
    entries = {
        name: {
            "address": entry.address,
            "token_file": entry.token_file,
            "trust_file": entry.trust_file,
            "settings": dict(entry.settings or {}),
        }
        for name, entry in contexts.items()
    }
    home.contexts.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = home.contexts.with_suffix(".new")
    new.write_text(json.dumps({"current": chosen, "contexts": entries}, indent=1) + "\n", encoding="utf-8")
    new.replace(home.contexts)


def _read_roots(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as cause:
        raise SettingsError("The roots of this control plane's authority cannot be read.", file=path, cause=cause) from cause


def _read_token(path: Path, *, required: bool) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as cause:
        if required:
            raise SettingsError("The token file of this context cannot be read.", file=path, cause=cause) from cause
        return ""
