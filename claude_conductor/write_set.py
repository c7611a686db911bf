"""Which files may a task change, and can two tasks change the same one? Declared sets of paths as people write them. Pure.

A pattern is a path from the top of the task's repository, with `/` between its parts:

    README.md        a file
    src/             a folder with everything beneath (`src` says the same)
    docs/*.md        `*` is any number of characters, `?` is one, neither crosses a `/`
    src/**/*.py      `**` as a whole part is any number of folders, none included
    .                the whole repository

A pattern covers what it matches and everything beneath that. Every other character stands for itself, brackets and braces
included: files are called `[id].tsx`. Upper and lower case differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final

MOST_PATTERNS: Final = 100
"""Patterns of one set."""
MOST_CHARACTERS: Final = 4096
"""Characters of all patterns of a set together; bounds what a comparison costs."""
EVERYTHING: Final = "**"


def problem(pattern: str) -> str:
    """Return in one sentence why this cannot be a pattern; empty if it can."""
    parts = pattern.split("/")
    if not pattern.strip():
        return "A path of a write set is not empty; `.` is the whole repository."
    if pattern.startswith("/"):
        return "A write set names paths within the repository, from its top: `src/`, not `/home/me/project/src/`."
    if ".." in parts:
        return "A write set stays within the task's repository: `..` leads out of it."
    if "\\" in pattern:
        return "The parts of a path are separated by `/`."
    if any(ord(character) < 32 or ord(character) == 127 for character in pattern):
        return "A path of a write set has no control characters."
    if any(part.lower() == ".git" for part in parts):
        return "A write set does not name `.git`: what is in there is never part of a patch."
    return ""


def normal(pattern: str) -> str:
    """Return the one way to write a pattern that `problem` has nothing against; a closing `/` stays, as it tells a folder."""
    parts: list[str] = []
    for part in pattern.split("/"):
        if part in ("", ".") or (part == EVERYTHING and parts and parts[-1] == EVERYTHING):
            continue
        while part != EVERYTHING and "**" in part:
            part = part.replace("**", "*")  # noqa: PLW2901 - within a part two stars are one
        parts.append(part)
    if not parts:
        return EVERYTHING
    return "/".join(parts) + ("/" if pattern.endswith("/") and parts[-1] != EVERYTHING else "")


def covers(patterns: Iterable[str], path: str) -> bool:
    """Tell whether a path within the repository is covered by one of the normal patterns."""
    names = tuple(path.split("/"))
    return any(_meet(_parts(pattern), names, _matches, beneath_other=False) for pattern in patterns)


def outside(patterns: Iterable[str], paths: Iterable[str]) -> list[str]:
    """Return the paths that none of the normal patterns covers, in their order."""
    known = tuple(patterns)
    return [path for path in paths if not covers(known, path)]


@lru_cache(maxsize=1 << 14)
def overlap(one: tuple[str, ...], other: tuple[str, ...]) -> str:
    """Return the first normal pattern of `other` that shares a possible path with one of `one`; empty if none does."""
    mine = [_parts(pattern) for pattern in one]
    for pattern in other:
        theirs = _parts(pattern)
        if any(_meet(parts, theirs, _can_match_the_same, beneath_other=True) for parts in mine):
            return pattern
    return ""


def _parts(pattern: str) -> tuple[str, ...]:
    return tuple(pattern.rstrip("/").split("/"))


def _meet(one: Sequence[str], other: Sequence[str], same: Callable[[str, str], bool], *, beneath_other: bool) -> bool:
    """Tell whether a path is covered by both; with `beneath_other` false, `other` is a path and covers itself alone."""
    seen: set[tuple[int, int]] = set()
    ahead = [(0, 0)]
    while ahead:
        at = ahead.pop()
        if at in seen:
            continue
        seen.add(at)
        i, j = at
        if i == len(one) or (beneath_other and j == len(other)):
            return True
        if j == len(other):
            if one[i] == EVERYTHING:
                ahead.append((i + 1, j))
        elif one[i] == EVERYTHING or (beneath_other and other[j] == EVERYTHING):
            ahead += [(i + 1, j), (i, j + 1)]
        elif same(one[i], other[j]):
            ahead.append((i + 1, j + 1))
    return False


def _matches(part: str, name: str) -> bool:
    """Tell whether a name fits one part of a pattern; nothing in the name is special."""
    at, read, star, again = 0, 0, -1, 0
    while read < len(name):
        if at < len(part) and part[at] == "*":
            star, again = at, read
            at += 1
        elif at < len(part) and part[at] in ("?", name[read]):
            at, read = at + 1, read + 1
        elif star >= 0:
            again += 1
            at, read = star + 1, again
        else:
            return False
    return not part[at:].strip("*")


def _can_match_the_same(one: str, other: str) -> bool:
    """Tell whether some name fits both parts."""
    if not {"*", "?"} & {*one, *other}:
        return one == other
    seen: set[tuple[int, int]] = set()
    ahead = [(0, 0)]
    while ahead:
        at = ahead.pop()
        if at in seen:
            continue
        seen.add(at)
        i, j = at
        if i == len(one) and j == len(other):
            return True
        star_one, star_other = i < len(one) and one[i] == "*", j < len(other) and other[j] == "*"
        if star_one:
            ahead.append((i + 1, j))
        if star_other:
            ahead.append((i, j + 1))
        if i == len(one) or j == len(other):
            continue
        if star_one:
            ahead.append((i, j + 1))
        elif star_other:
            ahead.append((i + 1, j))
        elif one[i] == other[j] or "?" in (one[i], other[j]):
            ahead.append((i + 1, j + 1))
    return False
