"""`conductor join`: this machine runs an agent of a control plane elsewhere."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from claude_conductor.cli import commands, local_set, session, setup_document
from claude_conductor.cli.in_use import ConfigOption, read_resolved
from claude_conductor.cli.output import say
from claude_conductor.cli.request import from_flag
from claude_conductor.client import Conductor
from claude_conductor.client.joining import join as use_token
from claude_conductor.client.joining import root_at
from claude_conductor.errors import ConductorError, InvalidArgumentError, StartFailedError
from claude_conductor.identity import kept as kept_identity
from claude_conductor.identity.kept import Kept
from claude_conductor.rpc.channel import Tls
from claude_conductor.settings.home import Home, find
from claude_conductor.settings.secret import Secret
from claude_conductor.supervisor import control
from claude_conductor.supervisor.scope import scope_prefix
from claude_conductor.units import parse_duration

app = commands.app("Run an agent of a control plane elsewhere on this machine.")
_POLL: Final = 0.1


@app.command()
def join(
    address: Annotated[str, typer.Argument(metavar="[ADDRESS]", help="HOST:PORT, as `tokens create-join` printed it.")] = "",
    token: Annotated[str, typer.Option("--token", envvar="CONDUCTOR_JOIN_TOKEN", help="The join token.")] = "",
    config: ConfigOption = None,
    wait_timeout: Annotated[str, typer.Option("--wait-timeout", help="How long it may take to become ready.")] = "30s",
) -> None:
    """Become an agent with a join token and start its sidecar; without a token: start it again as what this home is already."""
    wait = from_flag("--wait-timeout", wait_timeout, parse_duration)
    home = find(os.environ)
    path = home.joined
    if bool(address) != bool(token):
        raise InvalidArgumentError(
            "Joining needs an address and a token.", next_step="run the line that `tokens create-join` printed"
        )
    if not token and not path.exists():
        raise InvalidArgumentError(
            "This home has not joined anything yet.",
            next_step="`conductor tokens create-join AGENT` where the control plane runs",
        )
    local_set.check_home(home, [])
    kept = session.run(_enrol(path, address, token)) if token else kept_identity.read(path)
    began = time.monotonic()
    pid = _launch(home, path, kept, config, wait)
    try:
        session.run(_connected(path, kept, began + wait))
    except BaseException:
        control.stop(str(home.path))
        raise
    say(f"{kept.agent_id} of {kept.address} runs here (supervisor pid {pid}), at {kept.level}")
    say("  `conductor stop` ends it, `conductor join` starts it again")


async def _enrol(path: Path, address: str, token: str) -> Kept:
    from claude_conductor.identity import keys  # noqa: PLC0415 - OpenSSL, only where it is needed

    root = await root_at(address, token)
    key = keys.new_key()
    kept = await use_token(address, token, root, key, keys.request(key))
    kept_identity.write(path, kept)
    return kept


def _launch(home: Home, path: Path, kept: Kept, config: Path | None, wait: float) -> int:
    said: dict[str, tuple[Any, str]] = {
        "num_agents": (1, "conductor join"),
        "agent.workspace_isolation": (kept.level, "the join token"),
    }
    in_use = read_resolved(config, said)
    local_set.check_temp(in_use)
    sidecar = {
        **in_use.resolved.sidecars[0],
        "agent_id": kept.agent_id,
        "control_plane": kept.address,
        "identity": str(path),
    }
    local_set.check_home(home, [kept.agent_id])
    return control.launch(
        setup_document.build_joined(in_use.resolved, sidecar, home, os.environ, sys.executable),
        str(home.path),
        prefix=scope_prefix(os.environ, shutil.which),
        environment=setup_document.supervisor_environment(home, os.environ),
        timeout=wait,
    )


async def _connected(path: Path, kept: Kept, deadline: float) -> None:
    """Wait until the control plane says that this agent is there.

    Raises:
        StartFailedError: Time ran out.
        ConductorError: It refuses this agent.
    """
    missing = ""
    while time.monotonic() < deadline:
        present = kept_identity.read(path)
        tls = Tls(present.trust.encode(), present.chain.encode(), present.key.encode())
        async with Conductor(kept.address, Secret(present.token), tls) as conductor:
            try:
                if (await conductor.agents.get(kept.agent_id)).state in local_set.READY:
                    return
                missing = "its sidecar has not connected"
            except ConductorError as error:
                missing = str(error)
        await asyncio.sleep(_POLL)
    raise StartFailedError(
        "The agent did not become ready in time.",
        log=find(os.environ).logs / f"sidecar-{kept.agent_id}.log",
        missing=missing,
    )
