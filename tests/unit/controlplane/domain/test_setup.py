"""A set-up that makes no sense is refused with its field."""

from __future__ import annotations

import pytest

from controlplane.domain.setup import fault
from controlplane.domain.task import Setup, Spec


def test_a_task_without_one_and_an_ordinary_one_are_fine() -> None:
    assert fault(Spec()) is None
    assert fault(Spec(setup=Setup(("make",), cache_files=("a/x.lock",), keep=("node_modules/", "a/.venv")))) is None


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (Spec(setup=Setup(cache_files=("a",))), "spec.setup.command"),
        (Spec(driver="grpc_agent", setup=Setup(("make",))), "spec.setup"),
        (Spec(setup=Setup(("make",), timeout=0.0)), "spec.setup.timeout"),
        (Spec(setup=Setup(("make",), cache_files=("../x",))), "spec.setup.cache_files"),
        (Spec(setup=Setup(("make",), cache_files=("/etc/passwd",))), "spec.setup.cache_files"),
        (Spec(setup=Setup(("make",), cache_files=("a",) * 21)), "spec.setup.cache_files"),
        (Spec(setup=Setup(("make",), keep=("",))), "spec.setup.keep"),
        (Spec(setup=Setup(("make",), keep=("a/./b",))), "spec.setup.keep"),
        (Spec(setup=Setup(("make",), keep=(".git/hooks",))), "spec.setup.keep"),
        (Spec(setup=Setup(("make",), keep=(".Git",))), "spec.setup.keep"),
        (Spec(setup=Setup(("make",), keep=("a", "a/b"))), "spec.setup.keep"),
    ],
)
def test_what_makes_no_sense_is_refused(spec: Spec, field: str) -> None:
    found = fault(spec)
    assert found is not None
    assert found[0] == field
