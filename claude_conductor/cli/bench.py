"""`conductor bench`: measures this machine, by the benchmarks of the source tree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import typer

from claude_conductor.cli import commands
from claude_conductor.errors import MissingProgramError

app = commands.app("Measure this machine; what is said behind it goes to the benchmarks, `--help` included.")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def bench(context: typer.Context) -> None:
    """Measure this machine; what is said behind it goes to the benchmarks, `--help` included."""
    tree = Path(__file__).resolve().parents[2]
    if not (tree / "bench" / "__main__.py").is_file():
        raise MissingProgramError(
            "The benchmarks are not installed with the package.", next_step="run it from a checkout: `make bench`"
        )
    raise typer.Exit(subprocess.run([sys.executable, "-m", "bench", *context.args], cwd=tree, check=False).returncode)
