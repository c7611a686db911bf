"""How does the supervisor come by its tokens without keeping a cryptography library in memory?"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from claude_conductor.errors import HomeUnusableError, StartFailedError
from claude_conductor.supervisor.home import Home, read_private, write_private

_TOKEN_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class Tokens:
    """The secrets, and the digests by which the control plane knows them."""

    sidecars: Mapping[str, str] = field(repr=False)
    """Agent id to token."""
    sidecar_digests: Mapping[str, str]
    """Agent id to SHA-256 of the token, hexadecimal."""
    operator: str = field(repr=False)
    operator_digest: str


def prepare_tokens(home: Home, agent_ids: list[str]) -> Tokens:
    """Mint the tokens of this life, and keep the operator's in home/run/operator.token (0600).

    The minting happens in a forked child that answers on a pipe: hashlib brings OpenSSL, 4 MB that the resident process
    would carry for life.

    Raises:
        HomeUnusableError: The operator's token cannot be read or written.
        StartFailedError: The child that mints ended without an answer.
    """
    existing = (read_private(home.operator_token, _TOKEN_LIMIT) or "").strip() or None
    tokens = _mint_in_child(agent_ids, existing)
    try:
        if existing is None:
            write_private(home.operator_token, tokens.operator + "\n")
        else:
            os.chmod(home.operator_token, 0o600)
    except OSError as error:
        raise HomeUnusableError(path=home.operator_token, cause=error.strerror) from error
    return tokens


def _mint_in_child(agent_ids: list[str], operator: str | None) -> Tokens:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _answer(writer, agent_ids, operator)
    os.close(writer)
    with open(reader, encoding="ascii") as pipe:
        text = pipe.read()  # ends with the child, which only computes
    os.waitpid(pid, 0)
    if not text:
        raise StartFailedError("the supervisor could not mint its tokens")
    return Tokens(**json.loads(text))


def _answer(writer: int, agent_ids: list[str], operator: str | None) -> None:
    """Mint and write in the forked child; never returns, so nothing of the parent's runs twice."""
    code = 1
    try:
        import secrets  # noqa: PLC0415 - in the child only: see prepare_tokens

        from claude_conductor.supervisor.minting import mint  # noqa: PLC0415 - as above

        tokens = mint(agent_ids, operator, secrets.token_urlsafe)
        with open(writer, "w", encoding="ascii") as pipe:
            json.dump({name: getattr(tokens, name) for name in tokens.__slots__}, pipe)
        code = 0
    finally:
        os._exit(code)
