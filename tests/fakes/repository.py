"""A small git repository for tests."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_repository(place: Path) -> str:
    place.mkdir()
    (place / "a.txt").write_text("one\n")
    who = ["-c", "user.name=T", "-c", "user.email=t@example.invalid"]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=place, check=True)
    return subprocess.run(["git", "rev-parse", "HEAD"], cwd=place, check=True, capture_output=True, text=True).stdout.strip()


def apply(place: Path, patch: bytes) -> None:
    subprocess.run(["git", "apply", "-"], cwd=place, input=patch, check=True)
