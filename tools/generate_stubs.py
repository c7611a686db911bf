"""Generates claude_conductor/v1 from proto/: stubs, types and the descriptor set. With --check: fails if they differ."""

from __future__ import annotations

import argparse
import filecmp
import importlib.resources
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("claude_conductor/v1")
DESCRIPTORS = PACKAGE / "claude_conductor.v1.binpb"


def generate(target: Path) -> None:
    """Write every generated file below `target`."""
    protos = sorted((ROOT / "proto" / PACKAGE).glob("*.proto"))
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    (target / PACKAGE).mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={ROOT / 'proto'}", f"--proto_path={well_known}"),
            *(f"--plugin=protoc-gen-mypy={Path(sys.executable).parent / 'protoc-gen-mypy'}",),
            *(f"--plugin=protoc-gen-mypy_grpc={Path(sys.executable).parent / 'protoc-gen-mypy_grpc'}",),
            *(
                f"--python_out={target}",
                f"--grpc_python_out={target}",
                f"--mypy_out=quiet:{target}",
                f"--mypy_grpc_out=quiet:{target}",
            ),
            *(f"--descriptor_set_out={target / DESCRIPTORS}", "--include_imports", "--include_source_info"),
            *(str(proto) for proto in protos),
        ],
        check=True,
    )
    for stub in (target / PACKAGE).glob("*_pb2_grpc.py*"):
        if not stub.name.removesuffix("i").removesuffix(".py").endswith("_service_pb2_grpc"):
            stub.unlink()


def generated(folder: Path) -> dict[str, Path]:
    """Return the generated files of a tree by name."""
    return {path.name: path for path in (folder / PACKAGE).iterdir() if "_pb2" in path.name or path.suffix == ".binpb"}


def main() -> int:
    """Generate, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as place:
        generate(Path(place))
        new, old = generated(Path(place)), generated(ROOT)
        if check:
            different = [
                name
                for name in new | old
                if name not in old or name not in new or not filecmp.cmp(new[name], old[name], shallow=False)
            ]
            if different:
                print(f"stubs differ from proto/: {', '.join(sorted(different))}; run `make stubs`", file=sys.stderr)
            return 1 if different else 0
        for path in old.values():
            path.unlink()
        for name, path in new.items():
            shutil.copyfile(path, ROOT / PACKAGE / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
