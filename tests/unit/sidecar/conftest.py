"""An opened journal with the two boxes in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.boxes import Boxes


@pytest.fixture
async def boxes(tmp_path: Path) -> AsyncIterator[Boxes]:
    opened = Boxes(tmp_path / "journal.db")
    await opened.open()
    yield opened
    await opened.close()
