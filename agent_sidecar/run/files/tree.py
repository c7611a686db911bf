"""Whose a folder is and how it goes away: ownership and removal of trees an agent has written, links never followed. Blocking."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
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
    import shutil  # noqa: PLC0415 - with three compression libraries, 0.5 MB that an idle sidecar does without

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
