"""What pyproject promises agrees with what was generated and with what is there."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = ("claude_conductor", "controlplane", "agent_sidecar")
LONGEST_MODULE = 400


def floor(name: str) -> str:
    line = next(d for d in PROJECT["project"]["dependencies"] if re.match(rf"{name}(\[|[<>=]|$)", d))
    match = re.search(r">=([\d.]+)", line)
    assert match is not None
    return match[1]


def test_the_floors_are_those_the_stubs_demand():
    stub = (ROOT / "claude_conductor/v1/task_service_pb2_grpc.py").read_text()
    generated = re.search(r"GRPC_GENERATED_VERSION = '([\d.]+)'", stub)

    assert generated is not None
    assert floor("grpcio") == generated[1]


def modules():
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "v1" not in path.relative_to(ROOT).parts:
                yield path


def test_every_module_says_in_its_first_line_what_it_answers():
    silent = [str(path.relative_to(ROOT)) for path in modules() if not path.read_text().startswith('"""')]

    assert silent == []


def test_no_module_is_longer_than_one_can_read():
    long = {str(p.relative_to(ROOT)): n for p in modules() if (n := len(p.read_text().splitlines())) > LONGEST_MODULE}

    assert long == {}


def test_exceptions_are_swallowed_nowhere():
    hollow = [str(p.relative_to(ROOT)) for p in modules() if re.search(r"except[^\n]*:\n\s+pass\b", p.read_text())]

    assert hollow == []
