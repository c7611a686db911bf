import os
from pathlib import Path

import pytest

from agent_sidecar.isolation import slot
from claude_conductor.errors import AlreadyRunningError, IsolationRefusedError

RANGE = (61200, 61203)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: others always use their own uid")


def take(folder: Path, name: str = "one", **changes: object) -> slot.Slot:
    return slot.take(folder / name, folder / "locks", RANGE, known=lambda uid: uid in changes.get("known", ()))  # type: ignore[operator]


@pytest.mark.root
@needs_root
def test_every_slot_has_a_uid_and_a_prefix_of_its_own(tmp_path):
    slots = [take(tmp_path, str(number)) for number in range(4)]
    assert [each.uid for each in slots] == [61200, 61201, 61202, 61203]
    assert len({each.prefix for each in slots}) == 4
    with pytest.raises(IsolationRefusedError, match="No uid is free"):
        take(tmp_path, "fifth")
    for each in slots:
        each.release()


@pytest.mark.root
@needs_root
def test_a_slot_gets_its_uid_and_prefix_again_in_its_next_life(tmp_path):
    first, second = take(tmp_path, "a"), take(tmp_path, "b")
    before = (second.uid, second.prefix)
    first.release()
    second.release()
    again = take(tmp_path, "b")
    assert (again.uid, again.prefix) == before
    again.release()


@pytest.mark.root
@needs_root
def test_a_uid_the_system_knows_is_never_used(tmp_path):
    made = take(tmp_path, known=(61200, 61201))
    assert made.uid == 61202
    made.release()


def test_a_slot_that_is_held_cannot_be_taken(tmp_path):
    made = take(tmp_path)
    with pytest.raises(AlreadyRunningError):
        take(tmp_path)
    made.release()
    take(tmp_path).release()


@pytest.mark.parametrize("damage", ["", "zz", "conductor-../.. 0", "abcd1234", "../../../ 5"])
def test_a_damaged_record_is_replaced(tmp_path, damage):
    take(tmp_path).release()
    (tmp_path / "one" / "slot").write_text(damage)
    made = take(tmp_path)
    assert made.prefix.count("-") == 2
    assert "/" not in made.prefix
    made.release()


def test_the_folder_of_a_slot_is_private(tmp_path):
    made = take(tmp_path)
    assert made.folder.stat().st_mode & 0o777 == 0o700
    made.release()
