from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.backends.codec import decode, encode
from controlplane.domain.agent import Agent
from controlplane.domain.events import Event
from controlplane.domain.task import Spec, Task
from tests.contract.samples import task

numbers = st.floats(allow_nan=False) | st.integers()


st.register_type_strategy(float, numbers)


@pytest.mark.parametrize("kind", [Task, Agent, Event])
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_everything_comes_back_exactly(kind: type, data: st.DataObject) -> None:
    value = data.draw(st.from_type(kind))
    text = encode(value)
    assert decode(kind, text) == value
    text.encode()  # whatever the strings hold, it can be stored as UTF-8


def test_what_is_empty_by_default_is_not_written() -> None:
    written = json.loads(encode(task(1)))
    assert "lease" not in written
    assert "isolation" not in written
    assert written["spec"]["prompt"] == "do 1"


def test_a_default_that_is_not_empty_is_written_so_that_changing_it_changes_nothing_stored() -> None:
    assert json.loads(encode(Spec()))["timeout"] == 3600.0


def test_an_empty_value_is_written_where_the_default_is_not_empty() -> None:
    assert decode(Spec, encode(Spec(timeout=0.0, driver="", type=""))) == Spec(timeout=0.0, type="")


def test_a_field_this_version_does_not_know_is_an_error() -> None:
    with pytest.raises(ValueError, match="Spec has no field colour"):
        decode(Spec, '{"colour":"red"}')


@dataclass(frozen=True)
class Odd:
    thing: complex


def test_a_type_without_a_codec_is_an_error() -> None:
    with pytest.raises(TypeError):
        encode(Odd(1j))
