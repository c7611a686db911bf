"""A socket is claimed only where nobody else is."""

import socket

import pytest

from claude_conductor.errors import AddressInUseError, HomeUnusableError, SocketPathTooLongError
from claude_conductor.rpc.server import claim_socket


def test_a_path_longer_than_the_kernel_takes_is_refused_with_its_length(tmp_path):
    path = tmp_path / ("x" * 120)

    with pytest.raises(SocketPathTooLongError) as caught:
        claim_socket(path)

    assert caught.value.details["limit"] == "107"
    assert "CONDUCTOR_HOME" in caught.value.next_step


def test_a_socket_that_answers_belongs_to_somebody(tmp_path):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "s"))
        other.listen()

        with pytest.raises(AddressInUseError):
            claim_socket(tmp_path / "s")


def test_a_socket_nobody_listens_on_is_a_left_over(tmp_path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))

    assert claim_socket(tmp_path / "s") == f"unix:{tmp_path}/s"
    assert not (tmp_path / "s").exists()


def test_a_file_in_the_way_is_not_removed(tmp_path):
    (tmp_path / "s").write_text("mine")

    with pytest.raises(AddressInUseError):
        claim_socket(tmp_path / "s")
    assert (tmp_path / "s").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_an_unusable_home(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(HomeUnusableError):
        claim_socket(tmp_path / "file" / "run" / "s")
