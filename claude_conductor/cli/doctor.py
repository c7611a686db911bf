"""`conductor doctor`: what this host can isolate, whether the store is fit, and what to do about the rest."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import typer

from claude_conductor import __version__
from claude_conductor.cli import commands, complaint, exits, in_use, local_set, output, store_probe
from claude_conductor.cli.host import Mechanism, Probe, Report
from claude_conductor.cli.output import Column, Format, FormatOption, say
from claude_conductor.errors import ConductorError
from claude_conductor.settings.home import find
from claude_conductor.supervisor import control

app = commands.app("Show what this host can isolate, whether the store is fit, and what to do about the rest.")

COLUMNS = (
    Column("MECHANISM", lambda mechanism: mechanism.name),
    Column("HERE", lambda mechanism: mechanism.strength),
    Column("FOUND", lambda mechanism: mechanism.detail),
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at besides isolation."""

    name: str
    good: bool
    found: str
    remedy: str = ""


@app.command()
def doctor(form: FormatOption = Format.TABLE) -> None:
    """Show what this host can isolate, whether the store is fit, and what to do about the rest.

    Exit code 1 unless strict is possible and nothing is unfit. A Redis server of the settings in use is examined: persistence,
    replicas, eviction, memory, and what is at risk.
    """
    with Probe() as probe:
        checks = look_around()
        report = probe.report()
    if form in (Format.JSON, Format.YAML):
        output.show_one(form, _plain(report, checks), list, "")
    elif form is Format.NAME:
        for level in report.possible:
            say(level)
    else:
        _show(report, checks)
    good = "strict" in report.possible and all(check.good for check in checks)
    raise typer.Exit(exits.OK if good else exits.FAILURE)


def look_around() -> list[Check]:
    """Check what else a set needs."""
    home = find(os.environ)
    checks = [Check("conductor", good=True, found=f"{__version__}, Python {sys.version.split()[0]}")]
    try:
        if (running := control.running(str(home.path))) is None:
            local_set.check_home(home, ["agent-1"])
        checks.append(Check("home", good=True, found=f"{home.path}{f', runs (pid {running.pid})' if running else ''}"))
    except ConductorError as error:
        checks.append(Check("home", good=False, found=str(error), remedy=error.next_step))
    git, claude = shutil.which("git"), shutil.which("claude")
    checks.append(Check("git", good=git is not None, found=git or "not found", remedy="install git, for tasks with --repo"))
    checks.append(Check("claude", good=True, found=claude or "not found; only `--agent claude-code` needs it"))
    other = local_set.foreign_command(os.environ, sys.argv[0])
    if other is not None:
        own = Path(sys.argv[0]).resolve().parent
        checks.append(Check("PATH", good=False, found=f"{other} is another program", remedy=f"put {own} first on PATH"))
    return [*checks, *_store()]


def _store() -> list[Check]:
    """Check the store that the settings in use name, if it is a server."""
    try:
        url = in_use.read(None).document.store
        if "://" not in url:
            return []
        findings = store_probe.examine(url)
    except ConductorError as error:
        return [Check("store", good=False, found=str(error), remedy=error.next_step)]
    return [
        Check(f"store: {finding.name}", finding.verdict != "unfit", f"{_WORDS[finding.verdict]}{finding.found}", finding.remedy)
        for finding in findings
    ]


_WORDS = {"good": "", "risk": "at risk: ", "unfit": "unfit: "}


def _show(report: Report, checks: list[Check]) -> None:
    wide = max(10, *(len(check.name) for check in checks))
    for check in checks:
        say(f"{check.name:<{wide}} {check.found}")
    say("")
    output.table(report.mechanisms, COLUMNS)
    say("")
    for level, missing in report.missing.items():
        lacks = ", ".join(mechanism.name for mechanism in missing)
        say(f"{level:<10} {'possible' if not missing else f'not possible here: {lacks}'}")
        for text in report.weaker.get(level, ()):
            say(f"{'':<10} weaker: {text}")
    remedies = _remedies(report)
    for check in checks:
        if check.remedy and (not check.good or check.name.startswith("store: ")):
            remedies.append(f"{check.name}: {check.remedy}")
    if remedies:
        complaint.note("\nwhat to do:")
        for remedy in dict.fromkeys(remedies):
            complaint.note(f"  {remedy}")


def _remedies(report: Report) -> list[str]:
    missing: list[Mechanism] = [mechanism for lacks in report.missing.values() for mechanism in lacks]
    return [f"{mechanism.name}: {mechanism.remedy or 'no remedy is known on this host'}" for mechanism in missing]


def _plain(report: Report, checks: list[Check]) -> dict[str, object]:
    return {
        "driver": report.driver,
        "levels": {
            level: {
                "possible": not missing,
                "missing": [m.name for m in missing],
                "in_force": list(report.in_force.get(level, ())),
                "weaker": list(report.weaker.get(level, ())),
            }
            for level, missing in report.missing.items()
        },
        "mechanisms": [
            {"name": m.name, "strength": m.strength, "detail": m.detail, "remedy": m.remedy} for m in report.mechanisms
        ],
        "checks": [{"name": c.name, "good": c.good, "found": c.found, "remedy": c.remedy} for c in checks],
    }
