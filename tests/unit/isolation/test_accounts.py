"""What other accounts the system has."""

import os
import pwd
from pathlib import Path

import pytest

from agent_sidecar.isolation import accounts


@pytest.fixture(params=["getent", "without getent"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if request.param != "getent":
        monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("system")
def test_root_and_only_what_has_an_account_is_known() -> None:
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    free = next(uid for uid in range(61_000, 65_000) if uid not in taken)
    assert accounts.is_known(0)
    assert all(accounts.is_known(uid) for uid in sorted(taken)[:3])
    assert not accounts.is_known(free)


@pytest.mark.usefixtures("system")
def test_homes_of_people_are_those_of_root_and_of_ordinary_accounts() -> None:
    homes = accounts.homes_of_people()
    assert Path(pwd.getpwuid(0).pw_dir) in homes
    assert Path("/") not in homes
    people = {
        entry.pw_dir for entry in pwd.getpwall() if 1000 <= entry.pw_uid < 60000 and entry.pw_dir not in ("/", "/nonexistent")
    }
    assert {Path(home) for home in people} <= homes
    assert os.fspath(Path("/usr/sbin")) not in {str(home) for home in homes}
