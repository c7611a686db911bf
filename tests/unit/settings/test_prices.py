"""What models cost is data: a table of ours, and one of the user's over it; a table that is wrong is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_sidecar.gateway.price import Price, price_of
from agent_sidecar.settings import Settings
from claude_conductor.errors import SettingsError
from claude_conductor.settings import prices, resolve
from claude_conductor.settings.handover import from_plain
from claude_conductor.settings.home import Home
from claude_conductor.settings.load import Sources, load
from claude_conductor.settings.yaml_file import parse

OWN = """models:
  "claude-opus-4-5*": {input: 1, output: 2, cache_read: 0, cache_write: 0.5}
  house-model: {input: 0, output: 0, cache_read: 0, cache_write: 0}
"""


def handed_over(home: Path, settings: str = "{}") -> Settings:
    """Return what a sidecar is told."""
    resolved = resolve.resolve(load(Sources(file=parse(settings.encode(), "settings.yaml"))), Home(home), {"HOME": str(home)})
    return from_plain(Settings, resolved.sidecars[0])


def test_the_models_of_today_have_a_price_without_any_file(tmp_path: Path) -> None:
    table = handed_over(tmp_path).provider.prices
    assert price_of(table, "claude-sonnet-4-5-20250929") == Price(3, 15, 0.3, 3.75)
    assert price_of(table, "claude-opus-4-5-20251101") == Price(5, 25, 0.5, 6.25), "the longer name goes before claude-opus-4*"
    assert price_of(table, "claude-opus-4-1-20250805") == Price(15, 75, 1.5, 18.75)
    assert price_of(table, "gpt-nobody") is None


def test_the_file_of_the_home_goes_before_the_built_in_table_and_keeps_the_rest(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "prices.yaml").write_text(OWN)
    table = handed_over(tmp_path).provider.prices
    assert price_of(table, "claude-opus-4-5-20251101") == Price(1, 2, 0, 0.5)
    assert price_of(table, "house-model") == Price(0, 0, 0, 0)
    assert price_of(table, "claude-sonnet-4-5") == Price(3, 15, 0.3, 3.75)


def test_a_file_that_is_named_is_read_instead_and_has_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(OWN)
    named = f"provider: {{prices_file: {tmp_path}/mine.yaml}}"
    assert price_of(handed_over(tmp_path, named).provider.prices, "house-model") == Price(0, 0, 0, 0)
    with pytest.raises(SettingsError, match="cannot be read"):
        handed_over(tmp_path, named.replace("mine", "nowhere"))


@pytest.mark.parametrize(
    ("text", "says", "line"),
    [
        ("prices: {}", "one key, `models`", None),
        ("models: 3", "one key, `models`", None),
        ("models:\n  a: {input: 1}", "has four numbers", 2),
        ("models:\n  a: {input: 1, output: 1, cache_read: 1, cache_write: -1}", "0 or more", 2),
        ("models:\n  a: {input: 1, output: yes, cache_read: 1, cache_write: 1}", "0 or more", 2),
        ("models:\n  a: {input: .inf, output: 1, cache_read: 1, cache_write: 1}", "0 or more", 2),
        ("models:\n  a*b: {input: 1, output: 1, cache_read: 1, cache_write: 1}", "last character", 2),
    ],
)
def test_what_is_no_price_is_refused_with_its_line(tmp_path: Path, text: str, says: str, line: int | None) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=says) as refused:
        prices.table(file)
    assert refused.value.details.get("line") == (str(line) if line else None) or refused.value.details.get("line") == line
