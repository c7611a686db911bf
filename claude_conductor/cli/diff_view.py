"""How is a patch shown to a person: coloured on a terminal, and with nothing in it that steers one?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TextIO

from claude_conductor.cli import complaint
from claude_conductor.cli.patch_text import FileChange, Part, blob_size, lines
from claude_conductor.units import format_size

_COLOURS: Final = {Part.FILE: "1", Part.ABOUT: "1", Part.HUNK: "36", Part.ADDED: "32", Part.REMOVED: "31"}
_CONTROLS: Final = 0x20
_DELETE: Final = 0x7F


def shown(patch: bytes, stream: TextIO) -> Iterator[str]:
    """Yield the lines of a patch for people; the content of binary files is told by its size.

    Args:
        patch: As `git diff --binary` writes it.
        stream: Where they will be written; colours only on a terminal, and not with NO_COLOR.
    """
    told = False
    for line in lines(patch):
        if line.part is Part.FILE:
            told = False
        if line.part is Part.BINARY:
            size = blob_size(line.content)
            if size is not None and not told:  # the second is the way back
                told = True
                yield f"{format_size(size)} of content, left out here"
            continue
        text = visible(line.content.decode("utf-8", "replace"))
        colour = _COLOURS.get(line.part)
        yield complaint.paint(text, colour, stream) if colour and text else text


def stat(changes: list[FileChange]) -> list[str]:
    """Return a line per file with the size of its change, and their sum."""
    if not changes:
        return []
    sizes = [change.size for change in changes]
    width = max(map(len, sizes))
    rows = [
        f"{size:>{width}}  {visible(change.path)}{'' if change.kind == 'changed' else f' ({change.kind})'}"
        for size, change in zip(sizes, changes, strict=True)
    ]
    total = f"{len(changes)} file{'s' if len(changes) != 1 else ''}"
    return [*rows, f"{total}, +{sum(change.added for change in changes)} -{sum(change.removed for change in changes)}"]


def visible(text: str) -> str:
    """Return the text with every character that could steer a terminal or hide others written out.

    Control characters become `^[` and the like; others that print nothing, such as the marks that reverse the direction of
    writing (CVE-2021-42574), become `<U+202E>`. Tabs stay.
    """
    return "".join(letter if letter.isprintable() or letter == "\t" else _written_out(ord(letter)) for letter in text)


def _written_out(code: int) -> str:
    if code < _CONTROLS or code == _DELETE:
        return f"^{chr(code ^ 0x40)}"
    return f"<U+{code:04X}>"
