"""Whose a folder is and how it goes away: ownership and removal of trees an agent has written, links never followed. Blocking."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path


def give(root: Path, uid: int) -> None:
    """Give everything below and including `root` to `uid`; nothing to do for our own uid.

    Raises:
        OSError: An entry cannot be given away.
    """
    if uid == os.geteuid():
        return
    os.chown(root, uid, uid, follow_symlinks=False)
    for _, folders, files, descriptor in os.fwalk(root, follow_symlinks=False):
        for name in (*folders, *files):
            os.chown(name, uid, uid, dir_fd=descriptor, follow_symlinks=False)


def drop_special_files(root: Path) -> list[str]:
    """Remove pipes, sockets and devices below `root`; return their names, at most 20."""
    dropped: list[str] = []
    for folder, _, files, descriptor in os.fwalk(root, follow_symlinks=False):
        for name in files:
            mode = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
                os.unlink(name, dir_fd=descriptor)
                dropped.append(os.path.relpath(Path(folder, name), root))
    return dropped[:20]


def remove(root: Path) -> None:
    """Remove a tree, whoever owns it and whatever modes it has; nothing to do where there is none.

    Raises:
        OSError: Something cannot be removed.
    """
    if not os.path.lexists(root):
        return
    if root.is_symlink() or not root.is_dir():
        root.unlink()
        return
    try:
        shutil.rmtree(root)  # goes by descriptors, so a swapped link leads nowhere (shutil.rmtree.avoids_symlink_attacks)
    except PermissionError:
        if os.geteuid() == 0:
            raise  # modes do not stop root; and as root nothing is done below by name
        _open_up(root)
        shutil.rmtree(root)


def _open_up(root: Path) -> None:
    """Make folders without permissions enterable; top-down, so that each is reached after its parent was opened."""
    root.chmod(0o700)
    for folder, folders, _, descriptor in os.fwalk(root, follow_symlinks=False):
        del folder
        for name in folders:
            if not stat.S_ISLNK(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                os.chmod(name, 0o700, dir_fd=descriptor)


def prepare_parent(root: Path) -> None:
    """Make a folder that agents can pass through, but not list or write.

    Raises:
        OSError: It cannot be made.
    """
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o711)
