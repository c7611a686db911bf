"""A fetch is repeated for as long as nobody has printed what it brought, and by one command only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_conductor.agent_tools.claims import Claim

SOCKET = "/run/conductor/agent.sock"


def die(claim: Claim) -> None:
    """End the process that has it, as far as a file notices."""
    os.close(claim._file)


def test_what_was_printed_is_forgotten(tmp_path: Path) -> None:
    claim = Claim.make(tmp_path, SOCKET, "fetch_1")
    claim.printing()
    claim.printed()
    claim.printed()
    assert list(tmp_path.iterdir()) == []
    assert Claim.make(tmp_path, SOCKET, "fetch_2").request_id == "fetch_2"


@pytest.mark.parametrize("printing", [False, True])
def test_what_a_dead_process_did_not_print_is_asked_for_again(tmp_path: Path, printing: bool) -> None:
    first = Claim.make(tmp_path, SOCKET, "fetch_1")
    if printing:
        first.printing()
    die(first)
    for number in range(2, 4):
        claim = Claim.make(tmp_path, SOCKET, f"fetch_{number}")
        assert (claim.request_id, claim.perhaps_printed) == ("fetch_1", printing)
        if number == 2:
            die(claim)


def test_what_a_living_process_fetches_is_its_own(tmp_path: Path) -> None:
    claims = [Claim.make(tmp_path, SOCKET, f"fetch_{number}") for number in range(10)]
    assert [claim.request_id for claim in claims] == [f"fetch_{number}" for number in range(10)]
    assert len(list(tmp_path.iterdir())) == 8
    die(claims[5])
    assert Claim.make(tmp_path, SOCKET, "fetch_10").request_id == "fetch_5"
    for claim in claims:
        claim.printing()
        if claim is not claims[5]:
            claim.printed()


def test_agents_that_share_a_folder_do_not_meet(tmp_path: Path) -> None:
    die(Claim.make(tmp_path, SOCKET, "fetch_1"))
    assert Claim.make(tmp_path, "/other.sock", "fetch_2").request_id == "fetch_2"


def test_without_a_folder_or_behind_a_link_it_is_only_a_name(tmp_path: Path) -> None:
    assert Claim.make(tmp_path / "nowhere", SOCKET, "fetch_1").request_id == "fetch_1"
    die(Claim.make(tmp_path, SOCKET, "fetch_1"))
    (mine,) = tmp_path.iterdir()
    target = tmp_path / "target"
    mine.rename(target)
    mine.symlink_to(target)
    assert Claim.make(tmp_path, SOCKET, "fetch_2").request_id == "fetch_2"
    assert target.read_text() == "fetch_1"
