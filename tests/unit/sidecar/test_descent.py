"""Trees made to harm whoever walks them: too deep, moved meanwhile, with links out of them."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_sidecar.run.files import descent, tree
from agent_sidecar.run.files.planted import warnings_about


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder that is gone afterwards, for pytest's own removal would end with a RecursionError."""
    yield tmp_path
    subprocess.run(["rm", "-rf", tmp_path], check=True, timeout=60)


def nested(root: Path, levels: int) -> Path:
    """Make `levels` folders in one another below `root`, each with a file, deeper than a path could name."""
    root.mkdir()
    here = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    return root


def test_a_tree_deeper_than_recursion_descriptors_and_paths_last_goes_away(place: Path) -> None:
    tree.remove(nested(place / "ws", 5000))
    assert list(place.iterdir()) == []


def test_reading_a_tree_that_is_too_deep_ends_with_a_clear_error(place: Path) -> None:
    root = nested(place / "ws", descent.DEEPEST + 1)
    with pytest.raises(OSError, match="nested more than 2048 levels deep") as caught:
        tree.drop_special_files(root)
    assert caught.value.errno == errno.ENAMETOOLONG
    tree.remove(root)


def test_a_tree_deeper_than_recursion_lasts_is_read_to_its_end(place: Path) -> None:
    root = nested(place / "ws", 1500)
    assert sum(1 for entry in descent.entries(root) if not entry.folder) == 1500
    tree.give(root, os.geteuid() or 12345)
    assert warnings_about(root) == ()
    tree.remove(root)


def test_each_entry_is_told_once_a_folder_before_what_is_in_it(tmp_path: Path) -> None:
    for name in ("a/b/c", "a/d", "e"):
        (tmp_path / "ws" / name).mkdir(parents=True)
    for name in ("f", "a/g", "a/b/c/h"):
        (tmp_path / "ws" / name).write_text("x")
    (tmp_path / "ws/a/link").symlink_to(tmp_path)
    folders: list[str] = []
    told = []
    for entry in descent.entries(tmp_path / "ws"):
        del folders[entry.depth :]
        told.append("/".join((*folders, entry.name)))
        if entry.folder:
            folders.append(entry.name)
    assert sorted(told) == ["a", "a/b", "a/b/c", "a/b/c/h", "a/d", "a/g", "a/link", "e", "f"]
    assert all(told.index(name.rpartition("/")[0]) < told.index(name) for name in told if "/" in name)


def test_special_files_go_and_are_named_by_their_path(tmp_path: Path) -> None:
    (tmp_path / "ws/a/b").mkdir(parents=True)
    (tmp_path / "ws/c").mkdir()
    os.mkfifo(tmp_path / "ws/a/b/pipe")
    os.mkfifo(tmp_path / "ws/c/pipe")
    (tmp_path / "ws/c/kept").write_text("x")
    assert sorted(tree.drop_special_files(tmp_path / "ws")) == ["a/b/pipe", "c/pipe"]
    assert (tmp_path / "ws/c/kept").exists()


def test_a_folder_moved_out_while_the_tree_is_read_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "ws/a/b").mkdir(parents=True)
    (tmp_path / "ws/a/b/f").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    walk = descent.entries(tmp_path / "ws")
    assert [next(walk).name for _ in range(3)] == ["a", "b", "f"]
    (tmp_path / "ws/a/b").rename(tmp_path / "elsewhere/b")
    with pytest.raises(OSError, match="moved while it was read"):
        list(walk)
