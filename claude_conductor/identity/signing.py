"""Signatures of the audit chain: Ed25519 (RFC 8032), PEM keys."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from claude_conductor.errors import InvalidArgumentError


def new_key() -> bytes:
    """Return a new private key, unencrypted PKCS#8."""
    return ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_of(key: bytes) -> bytes:
    """Return the public key of a private one.

    Raises:
        InvalidArgumentError: It is no Ed25519 key.
    """
    return _private(key).public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def sign(key: bytes, text: bytes) -> str:
    """Return the signature of a text, hexadecimal.

    Raises:
        InvalidArgumentError: It is no Ed25519 key.
    """
    return _private(key).sign(text).hex()


def verified(public: bytes, text: bytes, signature: str) -> bool:
    """Tell whether a signature is good.

    Raises:
        InvalidArgumentError: The public key is none.
    """
    try:
        key = serialization.load_pem_public_key(public)
    except (ValueError, TypeError) as cause:
        raise InvalidArgumentError("This is no public key in PEM.") from cause
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise InvalidArgumentError("The audit chain is signed by an Ed25519 key.")
    try:
        key.verify(bytes.fromhex(signature), text)
    except (InvalidSignature, ValueError):
        return False
    return True


def _private(pem: bytes) -> ed25519.Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as cause:
        raise InvalidArgumentError("This is no private key in PEM.") from cause
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise InvalidArgumentError("The audit chain is signed by an Ed25519 key.")
    return key
