"""Whose a folder is and how it goes away: ownership and removal of trees an agent has written, links never followed. Blocking."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from agent_sidecar.run.files import descent


def give(root: Path, uid: int) -> None:
    """Give everything below and including `root` to `uid`; nothing to do for our own uid.

    Raises:
        OSError: An entry cannot be given away.
    """
    if uid == os.geteuid():
        return
    os.chown(root, uid, uid, follow_symlinks=False)
    for entry in descent.entries(root):
        os.chown(entry.name, uid, uid, dir_fd=entry.descriptor, follow_symlinks=False)


def drop_special_files(root: Path) -> list[str]:
    """Remove pipes, sockets and devices below `root`; return their names, at most 20."""
    dropped: list[str] = []
    folders: list[str] = []
    for entry in descent.entries(root):
        del folders[entry.depth :]
        if entry.folder:
            folders.append(entry.name)
            continue
        mode = os.stat(entry.name, dir_fd=entry.descriptor, follow_symlinks=False).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            os.unlink(entry.name, dir_fd=entry.descriptor)
            dropped.append("/".join((*folders, entry.name)))
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
        descent.unlink(root)
    except PermissionError:
        if os.geteuid() == 0:
            raise  # modes do not stop root; and as root nothing is done below by name
        _open_up(root)
        descent.unlink(root)


def _open_up(root: Path) -> None:
    """Make folders without permissions enterable; top-down, so that each is reached after its parent was opened."""
    root.chmod(0o700)
    for entry in descent.entries(root):
        if entry.folder:
            os.chmod(entry.name, 0o700, dir_fd=entry.descriptor)


def make_private(folder: Path) -> None:
    """Make a folder that only we can enter, or take one of ours; one that others could have prepared is refused.

    Raises:
        OSError: It is a link, no folder, somebody else's, or cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    facts = folder.lstat()
    if stat.S_ISLNK(facts.st_mode) or not stat.S_ISDIR(facts.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "it has to be a folder, not a link or a file", str(folder))
    if facts.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it belongs to another user", str(folder))
    folder.chmod(0o700)


def prepare_parent(root: Path) -> None:
    """Make a folder that agents can pass through, but not list or write.

    Raises:
        OSError: It cannot be made.
    """
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o711)
