from __future__ import annotations

from pathlib import Path

import pytest

from claude_conductor.errors import CertificateError
from claude_conductor.identity import signing
from controlplane.identity.signer import Signer


async def test_a_key_is_made_once_kept_to_this_user_and_signs(tmp_path: Path):
    signer = Signer(tmp_path / "audit")
    assert await signer.public() == b""
    first, again = await signer.sign(b"text"), await Signer(tmp_path / "audit").sign(b"text")
    public = await signer.public()
    assert first == again  # Ed25519 signs without chance
    assert signing.verified(public, b"text", first)
    assert not signing.verified(public, b"another", first)
    assert (tmp_path / "audit" / "key.pem").stat().st_mode & 0o777 == 0o600


async def test_a_key_that_is_gone_is_not_replaced_silently(tmp_path: Path):
    signer = Signer(tmp_path)
    await signer.sign(b"text")
    (tmp_path / "key.pem").unlink()
    with pytest.raises(CertificateError, match="cannot be signed") as refused:
        await signer.sign(b"text")
    assert "gone" in refused.value.details["cause"]
