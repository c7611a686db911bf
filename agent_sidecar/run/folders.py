"""Where a sidecar keeps its things, and which settings contradict each other."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from agent_sidecar.isolation.interface import Level
from agent_sidecar.run.files import tree
from agent_sidecar.run.hooks.workspace import Places
from agent_sidecar.settings import Settings
from claude_conductor.errors import HomeUnusableError, SettingsError
from claude_conductor.ids import check_name


def check(settings: Settings) -> None:
    """Refuse settings that contradict each other.

    Raises:
        SettingsError: Names the keys.
        InvalidArgumentError: The agent id cannot be one.
    """
    check_name("agent", settings.agent_id)
    if settings.networking and settings.level is Level.STRICT:
        raise SettingsError(
            "`enable_networking` contradicts the isolation level strict, which has no network.",
            next_step="leave it off, or choose `workspace_isolation: moderate`",
        )
    if not settings.agent_isolation and settings.level is not Level.MINIMAL:
        raise SettingsError(
            "`agent_isolation: false` is only possible with `workspace_isolation: minimal`.",
            next_step="leave agent_isolation on, or choose minimal",
            level=settings.level.value,
        )
    if settings.temp_path is not None:
        check_private(settings.temp_path)


def check_private(folder: Path) -> None:
    """Make a folder of our own, or refuse one that others could have prepared.

    Raises:
        SettingsError: It is a link, somebody else's, or cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.lstat()
        if stat.S_ISLNK(facts.st_mode) or not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
            raise SettingsError("`storage.temp_path` has to be a folder of this user, not a link.", path=folder)
        folder.chmod(0o700)
    except OSError as cause:
        raise SettingsError("`storage.temp_path` cannot be made.", path=folder, cause=cause.strerror) from cause


@dataclass(frozen=True, slots=True)
class Folders:
    """Where this sidecar keeps its things."""

    state: Path
    sockets: Path
    places: Places

    @classmethod
    def of(cls, settings: Settings) -> Folders:
        """Return the folders these settings mean."""
        state = settings.home / "sidecars" / settings.agent_id
        parent = settings.workspace_path if settings.workspace_path != Path() else settings.home / "workspace"
        temporary = settings.temp_path / settings.agent_id if settings.temp_path is not None else state / "git"
        own = settings.agent_id if settings.agent_isolation else "shared"
        return cls(
            state=state,
            sockets=settings.home / "run/agents" / settings.agent_id,
            places=Places(workspaces=parent / own, stores=temporary, patches=state / "attachments"),
        )

    def prepare(self) -> None:
        """Make them.

        Raises:
            HomeUnusableError: One cannot be made.
        """
        try:
            for folder in (self.state, self.places.stores, self.places.patches):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.sockets.mkdir(mode=0o711, parents=True, exist_ok=True)
            tree.prepare_parent(self.places.workspaces)
        except OSError as cause:
            raise HomeUnusableError(path=self.state, cause=cause.strerror) from cause
