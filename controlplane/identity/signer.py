"""How is the audit chain signed without keeping a cryptography library in memory? By a process for each signature."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final

from claude_conductor.errors import CertificateError
from claude_conductor.identity.files import read_private

_SECONDS: Final = 20.0
_LONGEST_ERROR: Final = 500


class Signer:
    """The Ed25519 key of a home: `key.pem` and, for whoever checks, `public.pem`, in a folder only this user can read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def sign(self, text: bytes) -> str:
        """Return the signature of a text, hexadecimal; the first one makes the key where there is none.

        Raises:
            CertificateError: The key cannot be read, or it takes too long.
        """
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "controlplane.identity.signing_process", str(self._folder)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_SECONDS):
                signature, said = await process.communicate(text)
        except TimeoutError as cause:
            raise CertificateError("The audit chain could not be signed in time.") from cause
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            words = said.decode(errors="replace").strip()[:_LONGEST_ERROR]
            raise CertificateError("The audit chain cannot be signed.", cause=words, path=self._folder)
        return signature.decode("ascii")

    async def public(self) -> bytes:
        """Return the public key, PEM; there is one once something was signed.

        Raises:
            CertificateError: It cannot be read.
        """
        path = self._folder / "public.pem"
        return await asyncio.to_thread(read_private, path) if path.exists() else b""
