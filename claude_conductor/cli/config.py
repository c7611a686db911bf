"""`conductor config`: which settings hold here and why; check, export and import them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from claude_conductor.cli import commands, complaint, exits, in_use, output
from claude_conductor.cli.in_use import ConfigOption
from claude_conductor.cli.output import Column, Format, FormatOption, say
from claude_conductor.settings import resolve, yaml_file
from claude_conductor.settings.home import find
from claude_conductor.settings.load import Loaded, Sources, load
from claude_conductor.settings.origin import Origin, Rank
from claude_conductor.settings.prices import PARTS
from claude_conductor.settings.schema import keys
from claude_conductor.supervisor import control

app = commands.app("Show, check, export and import settings.", group=True)

HOST_BOUND: Final = (
    "claude_binary",
    "provider.api_key_file",
    "provider.prices_file",
    "storage.workspace_path",
    "storage.temp_path",
    "toolchains",
)
"""Keys that name files of this machine: exported, and pointed out."""
IMPORT_CALL: Final = "conductor config import < settings.yaml"

CONTAINER_CALL: Final = "docker exec -i claude-conductor conductor config import < settings.yaml"


@app.command()
def show(
    show_origin: Annotated[bool, typer.Option("--show-origin", help="Where each value comes from.")] = False,  # noqa: FBT002
    config: ConfigOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show every setting with its value."""
    loaded = in_use.read(config)
    rows = [{"key": key, "value": value, "origin": str(loaded.origin(key))} for key, value in _flat(loaded)]
    if form in (Format.JSON, Format.YAML) and not show_origin:
        output.show_one(form, loaded.document.model_dump(mode="json"), list, "")
        return
    columns = [Column("KEY", lambda row: row["key"]), Column("VALUE", lambda row: _shown(row["value"]))]
    if show_origin:
        columns.append(Column("FROM", lambda row: row["origin"]))
    output.show_rows(form, rows, columns, lambda row: str(row["key"]), "")


@app.command()
def prices(config: ConfigOption = None, form: FormatOption = Format.TABLE) -> None:
    """Show what models cost: US dollars for a million tokens, and which file says so."""
    table = resolve.prices_in_force(in_use.read(config), find(os.environ), os.environ)
    rows = [{"model": name, **entry.price, "from": entry.source} for name, entry in sorted(table.items())]
    columns = [Column("MODEL", lambda row: str(row["model"]))]
    columns += [_price_column(part) for part in PARTS]
    columns.append(Column("FROM", lambda row: str(row["from"])))
    output.show_rows(form, rows, columns, lambda row: str(row["model"]), "no prices")


@app.command()
def validate(
    file: Annotated[Path | None, typer.Argument(help="Settings file; without one, the settings in use.")] = None,
) -> None:
    """Check settings without starting anything."""
    if file is None:
        in_use.read_resolved(None)
        say("the settings in use are valid")
        return
    text = yaml_file.read(file)
    _check(text)
    say(f"{file} is valid")


@app.command()
def export(config: ConfigOption = None) -> None:
    """Print what is set here as a settings file; secrets are never in it."""
    loaded = in_use.read(config)
    written = loaded.written()
    lines = ["# Settings of Claude Conductor, written by `conductor config export`; read back with `conductor config import`."]
    lines += [f"# This names a file of the machine it was written on: {key}" for key in HOST_BOUND if loaded.origin(key).rank]
    lines.append("# Not in here: tokens, provider keys, tasks and messages.")
    sys.stdout.write("\n".join(lines) + "\n" + (yaml_file.dump(written) if written else "{}\n"))


@app.command("import")
def import_(
    file: Annotated[Path | None, typer.Argument(help="Settings file; without one, standard input.")] = None,
) -> None:
    """Take settings over from a file or from standard input; what was there is kept as config.yaml.before."""
    if file is None and sys.stdin.isatty():
        complaint.tell("There is nothing to import: standard input is a terminal.", next_step=f"`{IMPORT_CALL}`")
        raise typer.Exit(exits.USAGE)
    text = (
        yaml_file.read(file)
        if file is not None
        else yaml_file.parse(sys.stdin.buffer.read(yaml_file.LARGEST + 1), "standard input")
    )
    if not text.lines:
        complaint.tell(
            "There is nothing to import: the input is empty.",
            next_step=f"`{IMPORT_CALL}`, in a container `{CONTAINER_CALL}` (without -i nothing reaches it); "
            "`conductor config export > settings.yaml` writes such a file",
        )
        raise typer.Exit(exits.USAGE)
    loaded = _check(text)
    home = find(os.environ)
    target = home.config
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = target.with_suffix(".new")
    written = loaded.written()
    new.write_text(
        "# Imported by `conductor config import`.\n" + (yaml_file.dump(written) if written else "{}\n"), encoding="utf-8"
    )
    new.chmod(0o600)
    if target.exists():
        target.replace(target.with_suffix(".yaml.before"))
    new.replace(target)
    say(f"{len(_leaves(written))} settings are in {target} now")
    for key, origin in _overridden(loaded, in_use.read(None)):
        complaint.warn(f"`{key}` of the import does not count here: {origin} does")
    if control.running(str(home.path)) is not None:
        complaint.note("  next: `conductor stop` and `conductor start` make them act")


def _check(text: yaml_file.Text) -> Loaded:
    """Check a file alone, without variables and context, down to what it means here."""
    loaded = load(Sources(file=text))
    for warning in loaded.warnings:
        complaint.warn(warning)
    environment = {name: value for name, value in os.environ.items() if name != "ANTHROPIC_API_KEY"}
    resolve.resolve(loaded, find(os.environ), environment)
    return loaded


def _overridden(imported: Loaded, now: Loaded) -> list[tuple[str, Origin]]:
    """Return the imported keys over which something else counts here, and what."""
    said = [key for key, block in keys().items() if block is None and imported.origin(key).rank]
    return [(key, now.origin(key)) for key in said if now.origin(key).rank > Rank.FILE]


def _flat(loaded: Loaded) -> list[tuple[str, Any]]:
    plain = loaded.document.model_dump(mode="json")
    found = []
    for key, block in keys().items():
        if block is not None:
            continue
        value: Any = plain
        for name in key.split("."):
            value = value[name]
        found.append((key, value))
    return found


def _leaves(values: dict[str, Any]) -> list[str]:
    found = []
    for name, value in values.items():
        found += _leaves(value) if isinstance(value, dict) and value else [name]
    return found


def _price_column(part: str) -> Column:
    return Column(part.replace("_", " ").upper(), lambda row: f"{row[part]:g}")


def _shown(value: Any) -> str:  # noqa: ANN401 - a settings value
    if isinstance(value, bool):
        return "true" if value else "false"
    return output.json_line(value) if isinstance(value, list | dict) else str(value)
