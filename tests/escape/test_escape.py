"""No way out: every attack is open outside, and inside each level does with it what is written down for it."""

import pytest

from agent_sidecar.isolation.interface import Level
from tests.escape.attacks import ATTACKS, Attack
from tests.escape.conftest import Inside, Target

pytestmark = pytest.mark.root


def name_of(attack: Attack) -> str:
    return f"{attack.number:02d} {attack.name}".replace(" ", "-")


@pytest.mark.parametrize("level", Level, ids=lambda level: level.value)
@pytest.mark.parametrize("attack", ATTACKS, ids=name_of)
def test_an_attack_that_is_open_outside_meets_its_expected_verdict(attack: Attack, level: Level, target: Target, inside: Inside):
    control = target.control(attack)
    if control != "OPEN" and attack.optional:
        pytest.skip(f"this kernel shuts it for everybody (control said {control})")
    assert control == "OPEN", "a probe that cannot succeed proves nothing"
    verdict, said = inside.verdict(attack, target, level)
    assert verdict == attack.expected(level), said
