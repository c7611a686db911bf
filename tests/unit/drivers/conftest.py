from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest


class FakeFinder:
    """A host made of values: programs, links and what is native among them."""

    def __init__(
        self,
        *,
        on_path: Mapping[str, str] | None = None,
        native: Iterable[str] = (),
        scripts: Iterable[str] = (),
        links: Mapping[str, str] | None = None,
    ) -> None:
        self._on_path = dict(on_path or {})
        self._native = {Path(path) for path in native}
        self._scripts = {Path(path) for path in scripts}
        self._links = {Path(link): Path(target) for link, target in (links or {}).items()}

    def which(self, program: str) -> Path | None:
        found = self._on_path.get(program)
        return Path(found) if found else None

    def is_program(self, path: Path) -> bool:
        return self.resolve(path) in self._native | self._scripts

    def is_native(self, path: Path) -> bool:
        return self.resolve(path) in self._native

    def resolve(self, path: Path) -> Path:
        for _ in range(20):
            for link, target in self._links.items():
                if path.is_relative_to(link):
                    path = target / path.relative_to(link)
                    break
            else:
                return path
        return path

    def read_link(self, path: Path) -> Path | None:
        return self._links.get(path)


@pytest.fixture
def host() -> type[FakeFinder]:
    return FakeFinder
