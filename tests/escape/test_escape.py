"""No way out: every attack is open outside and shut inside."""

import pytest

from agent_sidecar.isolation.interface import Cause
from tests.contract.isolation_driver import FOLDERS, PYTHON
from tests.escape.attacks import ATTACKS, Attack

EXPECTED = {("process", "strict"): "BLOCKED"}
"""Verdict for every attack by driver and level; exceptions would be listed one by one."""

pytestmark = pytest.mark.root


def name_of(attack: Attack) -> str:
    return f"{attack.number:02d} {attack.name}".replace(" ", "-")


@pytest.mark.parametrize("attack", ATTACKS, ids=name_of)
def test_an_attack_is_open_outside_and_shut_inside(attack: Attack, target, inside):
    runner, sandbox = inside
    control = target.control(attack)
    if control != "OPEN" and attack.optional:
        pytest.skip(f"this kernel shuts it for everybody (control said {control})")
    assert control == "OPEN", "a probe that cannot succeed proves nothing"

    argv = (str(PYTHON), "-I", "-c", attack.program, target.text)
    ended = runner.run(sandbox.run(*argv, toolchains=FOLDERS))
    assert ended.exit.cause is Cause.EXITED, ended.exit
    assert ended.stdout.split(" ")[0].strip() == EXPECTED["process", "strict"], ended.stdout + ended.stderr
