"""Signs one text: `python -m controlplane.identity.signing_process FOLDER`, text on standard input, signature on standard output.

The first one makes the key. A process of its own, because OpenSSL's bindings would add 16 MB to the control plane for life.
"""

from __future__ import annotations

import sys
from pathlib import Path

from claude_conductor.errors import CertificateError, ConductorError
from claude_conductor.identity import signing
from claude_conductor.identity.files import read_private, write_private

KEY, PUBLIC = "key.pem", "public.pem"


def main(arguments: list[str]) -> int:
    """Sign; return the exit code."""
    folder = Path(arguments[0])
    try:
        if not (folder / KEY).exists():
            _make(folder)
        sys.stdout.write(signing.sign(read_private(folder / KEY), sys.stdin.buffer.read()))
    except ConductorError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _make(folder: Path) -> None:
    if (folder / PUBLIC).exists():
        raise CertificateError("The key of the audit chain is gone.", next_step="put it back from a backup", path=folder / KEY)
    key = signing.new_key()
    write_private(folder / KEY, key)
    write_private(folder / PUBLIC, signing.public_of(key))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
