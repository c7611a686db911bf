"""Fails if proto/ breaks the wire against the last release tag (none yet: against nothing, and says so)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Compare with the newest tag `v*`."""
    tags = subprocess.run(
        ["git", "tag", "--list", "v*", "--sort=-version:refname"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    if not tags.stdout.strip():
        print("no release tag yet: nothing the protos could break")
        return 0
    newest = tags.stdout.split()[0]
    buf = Path(sys.executable).parent / "buf"
    return subprocess.run([buf, "breaking", "--against", f".git#tag={newest}"], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
