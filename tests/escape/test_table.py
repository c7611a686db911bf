"""The table of verdicts is whole, true to the tests, and what the documentation shows."""

from pathlib import Path

from agent_sidecar.isolation.interface import Level
from tests.escape.attacks import ATTACKS
from tests.escape.table import CASES, ELSEWHERE, table

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/design/escape.md"


def test_every_case_of_the_list_has_a_test():
    assert len(CASES) == 72
    covered = {attack.number for attack in ATTACKS} | ELSEWHERE.keys()
    assert sorted(set(range(1, 73)) - covered) == []


def test_the_tests_named_for_cases_exist():
    for names in ELSEWHERE.values():
        for name in names:
            file, _, test = name.partition("::")
            assert f"def {test}(" in (ROOT / file).read_text(), name


def test_strict_and_moderate_stop_everything_and_there_are_enough_assertions():
    assert [each.name for each in ATTACKS if each.open_at and set(each.open_at) != {Level.MINIMAL}] == []
    assert len(ATTACKS) >= 120
    assert len({each.name for each in ATTACKS}) == len(ATTACKS)


def test_the_page_shows_this_table():
    assert table() in PAGE.read_text(), "`python -m tests.escape.table` prints the table for docs/design/escape.md"
