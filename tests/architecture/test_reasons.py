"""The reasons of the code, of the protos and of the documentation are the same."""

from claude_conductor import errors
from claude_conductor.v1 import error_reason_pb2


def test_every_reason_is_in_the_proto_and_the_other_way_round():
    in_code = {error.reason for error in errors.ALL}
    in_proto = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name} - {
        "UNSPECIFIED"
    }

    assert in_code == in_proto


def test_every_reason_says_what_happened_and_what_to_do_next():
    for error in errors.ALL:
        assert error.__doc__, error
        assert error.__doc__.strip().endswith("."), error
        assert len(error.advice) > 10, error
