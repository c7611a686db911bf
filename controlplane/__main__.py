"""The control plane's process: settings in by a descriptor, one clear line and exit code 78 if it cannot start."""

from __future__ import annotations

import os
import sys

from claude_conductor.rpc import process

EX_TEMPFAIL = 75
"""sysexits.h: the store is not there now; starting it again may help."""
EX_CONFIG = 78
"""sysexits.h: something in the configuration keeps it from starting; starting it again as it is does not help."""


def main(arguments: list[str]) -> int:
    """Run the control plane with `--settings-fd N` and, below a supervisor, `--supervision-fd N`."""
    process.prepare()
    os.umask(0o077)
    # Imported only now: grpc reads its settings while it is imported.
    from claude_conductor.errors import ConductorError, SettingsError, StoreUnavailableError  # noqa: PLC0415
    from claude_conductor.settings.handover import read_descriptor  # noqa: PLC0415
    from claude_conductor.telemetry import logs  # noqa: PLC0415
    from controlplane.app import serve  # noqa: PLC0415
    from controlplane.settings import Settings  # noqa: PLC0415

    settings = None
    try:
        descriptors = _descriptors(arguments)
        if "--settings-fd" not in descriptors:
            raise SettingsError("The control plane needs --settings-fd N.")
        settings = read_descriptor(Settings, descriptors["--settings-fd"])
        logs.configure(settings.log_level, settings.log_style)
        process.run(serve(settings, os.environ, descriptors.get("--supervision-fd")))
    except ConductorError as error:
        sys.stderr.write(f"conductor control plane: {error}; {error.next_step}\n")
        elsewhere = settings is not None and "://" in settings.store
        return EX_TEMPFAIL if elsewhere and isinstance(error, StoreUnavailableError) else EX_CONFIG
    return 0


def _descriptors(arguments: list[str]) -> dict[str, int]:
    known = {"--settings-fd", "--supervision-fd"}
    found: dict[str, int] = {}
    for name, value in zip(arguments[::2], arguments[1::2], strict=False):
        if name in known and value.isdecimal():
            found[name] = int(value)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
