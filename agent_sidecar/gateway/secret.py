"""How a key is carried through the program without ever being printed, logged or pickled."""

from __future__ import annotations

from typing import Final, NoReturn

from claude_conductor.errors import SettingsError


class Secret:
    """A text that shows itself only to who asks for it by name.

    Args:
        text: White space around it is dropped, as files and variables often carry a newline.

    Raises:
        SettingsError: It is empty or cannot be sent in an HTTP header; the message does not repeat it.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        stripped = text.strip()
        if not stripped or not stripped.isascii() or not stripped.isprintable():
            raise SettingsError(
                "The key is empty, or has characters that no key has.", next_step="copy it again from the provider's console"
            )
        self._text: Final = stripped

    def reveal(self) -> str:
        """Return the text. Call it only where it is sent."""
        return self._text

    def __repr__(self) -> str:
        return "Secret([redacted])"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")
