"""Which model provider the gateway leads to, and what may be asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from claude_conductor.errors import SettingsError
from claude_conductor.settings.secret import Secret

DEFAULT_BASE_URL = "https://api.anthropic.com"
PATHS = ("/", "/v1/messages", "/v1/messages/count_tokens", "/v1/models")
"""What an agent needs. Batches, files and administration stay out: they would spend or change without being counted."""

_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider's address, the key for it, and its open paths."""

    secure: bool
    host: str
    port: int
    prefix: str = ""
    """Path of the base URL, without a slash at its end."""
    key: Secret | None = None
    ca_file: Path | None = None
    """PEM file of the authorities to trust instead of the system's."""
    paths: tuple[str, ...] = PATHS

    @property
    def authority(self) -> str:
        """Value of the Host header (RFC 9110 section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["https" if self.secure else "http"] else f"{host}:{self.port}"

    @property
    def credential_id(self) -> str:
        """Names the key without telling it: a hash of it and of where it is used, 16 hexadecimal digits; empty without a key."""
        if self.key is None:
            return ""
        import hashlib  # noqa: PLC0415 - 0.8 MB that a sidecar without a key does not need

        parts = ("claude-conductor credential", self.authority, self.prefix, self.key.reveal())
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def opens(self, path: str) -> bool:
        """Tell whether this path may be asked for. It is compared as sent: encoded or dotted spellings never match."""
        return path in self.paths or (path.startswith("/v1/models/") and "/v1/models" in self.paths and ".." not in path)


def provider_at(base_url: str, key: Secret | None = None, *, ca_file: Path | None = None) -> Provider:
    """Return the provider of a base URL such as `https://api.anthropic.com`.

    Raises:
        SettingsError: The URL is not http or https, has no host, or has a user, query or fragment; or the key cannot be a key.
    """
    try:
        parts: SplitResult = urlsplit(base_url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError as cause:
        raise SettingsError("The provider's base URL cannot be read.", base_url=base_url) from cause
    if parts.scheme not in _PORTS or not parts.hostname:
        raise SettingsError("The provider's base URL has to begin with https:// or http:// and name a host.", base_url=base_url)
    if not base_url.isascii():
        raise SettingsError("The provider's base URL has characters that need encoding.", base_url=base_url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise SettingsError("The provider's base URL holds more than scheme, host, port and path.", host=parts.hostname)
    return Provider(
        secure=parts.scheme == "https",
        host=parts.hostname,
        port=port,
        prefix=parts.path.rstrip("/"),
        key=checked_key(key),
        ca_file=ca_file,
    )


def checked_key(key: Secret | None) -> Secret | None:
    """Return the key without the white space that files and variables often carry; None where there is none.

    Raises:
        SettingsError: It cannot be sent in an HTTP header; the message does not repeat it.
    """
    if not key:
        return None
    stripped = key.reveal().strip()
    if not stripped or not stripped.isascii() or not stripped.isprintable():
        raise SettingsError(
            "The key is empty, or has characters that no key has.", next_step="copy it again from the provider's console"
        )
    return Secret(stripped)
