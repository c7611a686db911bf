"""A small git repository for tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

_WHO = ("-c", "user.name=T", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false")


def git(place: Path, *arguments: str) -> str:
    """Run git as somebody, whatever this home has configured; return what it printed."""
    return subprocess.run(["git", *_WHO, "-C", str(place), *arguments], check=True, capture_output=True, text=True).stdout.strip()


def make_repository(place: Path) -> str:
    place.mkdir()
    (place / "a.txt").write_text("one\n")
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "first"]):
        git(place, *words)
    return git(place, "rev-parse", "HEAD")


def apply(place: Path, patch: bytes) -> None:
    subprocess.run(["git", "apply", "-"], cwd=place, input=patch, check=True)
