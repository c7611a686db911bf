"""Where a sidecar keeps its things, and which settings contradict each other."""

from __future__ import annotations

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
        tree.make_private(folder)
    except OSError as cause:
        raise SettingsError(f"`storage.temp_path` cannot be used: {cause.strerror}.", path=folder) from cause


@dataclass(frozen=True, slots=True)
class Folders:
    """Where this sidecar keeps its things."""

    state: Path
    sockets: Path
    no_sockets: Path
    """An empty folder, shown to set-up commands in the place of the sockets."""
    setups: Path
    """What set-up commands made, of all sidecars of the home."""
    home: Path
    """Of a long-running agent; its own also where agents share the folder of workspaces."""
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
            no_sockets=settings.home / "run/agents" / settings.agent_id / "setup",
            setups=settings.home / "setups",
            home=parent / own / ("home" if settings.agent_isolation else f"home-{settings.agent_id}"),
            places=Places(
                workspaces=parent / own,
                stores=temporary,
                kept=parent / ".kept" / settings.agent_id,
                patches=state / "attachments",
            ),
        )

    def prepare(self) -> None:
        """Make them.

        Raises:
            HomeUnusableError: One cannot be made.
        """
        try:
            self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.places.stores, self.places.patches):
                tree.make_private(folder)
            self.sockets.mkdir(mode=0o711, parents=True, exist_ok=True)
            self.no_sockets.mkdir(mode=0o711, exist_ok=True)
            tree.prepare_parent(self.places.workspaces)
        except OSError as cause:
            raise HomeUnusableError(path=self.state, cause=cause.strerror) from cause
