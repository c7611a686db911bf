"""A secret that does not show itself: not in logs, tracebacks, reprs or exports."""

from __future__ import annotations

from typing import NoReturn


class Secret:
    """Wraps a secret text. `reveal` is the only way to it, so every use can be found."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        import hmac  # noqa: PLC0415 - brings OpenSSL's hashes, and a sidecar compares nothing: 0.8 MB

        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __repr__(self) -> str:
        return "Secret(***)" if self._text else "Secret()"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")
