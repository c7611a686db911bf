"""How are keys and certificates kept on disk? In a folder of the user's own: readable by nobody else, and never half written."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from claude_conductor.errors import CertificateError, HomeUnusableError

KEY, CHAIN, TRUST = "key.pem", "certificate.pem", "trust.pem"
_LARGEST: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Identity:
    """A key, its certificate with what leads to a root, and the roots of the other side. PEM."""

    key: bytes = field(repr=False)
    chain: bytes
    trust: bytes


def write(folder: Path, identity: Identity) -> None:
    """Keep an identity in a folder, made if it is missing.

    Raises:
        HomeUnusableError: It cannot be written.
    """
    for name, content in ((KEY, identity.key), (CHAIN, identity.chain), (TRUST, identity.trust)):
        write_private(folder / name, content)


def read(folder: Path) -> Identity:
    """Return the identity kept in a folder.

    Raises:
        CertificateError: A file is missing, or others can read the key.
    """
    return Identity(*(read_private(folder / name) for name in (KEY, CHAIN, TRUST)))


def write_private(path: Path, content: bytes) -> None:
    """Replace a file in one step; 0600, in a folder that is made 0700 if it is missing.

    Raises:
        HomeUnusableError: It cannot be written.
    """
    new = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        new.replace(path)
    except OSError as cause:
        raise HomeUnusableError("A private file cannot be written.", path=path, cause=cause.strerror) from cause


def read_private(path: Path) -> bytes:
    """Return the content of a file that nobody else can read.

    Raises:
        CertificateError: It is missing, too large, or others can read it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            if stat.S_IMODE(facts.st_mode) & 0o077:
                raise CertificateError("Others can read this file.", next_step=f"chmod 600 {path}", path=path)
            return file.read(_LARGEST)
    except OSError as cause:
        raise CertificateError("A file of an identity cannot be read.", path=path, cause=cause.strerror) from cause
