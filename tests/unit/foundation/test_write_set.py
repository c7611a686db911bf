"""Write sets: what a pattern covers, and that two that cover the same path are seen to overlap."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_conductor.write_set import EVERYTHING, covers, normal, outside, overlap, problem


@pytest.mark.parametrize(
    ("pattern", "covered", "not_covered"),
    [
        ("README.md", ["README.md", "README.md/odd"], ["readme.md", "docs/README.md", "README.md2"]),
        ("src/", ["src/a.py", "src/b/c.py", "src"], ["srcs/a.py", "lib/src/a.py"]),
        ("src", ["src/a.py", "src"], ["source"]),
        ("docs/*.md", ["docs/a.md", "docs/.md"], ["docs/a/b.md", "docs/a.mdx", "a.md"]),
        ("docs/*", ["docs/a", "docs/a/b"], ["docs"]),
        ("src/**/*.py", ["src/a.py", "src/b/c/d.py"], ["src/a.txt", "a.py", "src"]),
        ("**/test_?.py", ["test_1.py", "a/b/test_x.py"], ["test_12.py", "a/test_.py"]),
        ("app/[id].tsx", ["app/[id].tsx"], ["app/i.tsx"]),
        ("a*b*c", ["abc", "aXbYc", "abbcc"], ["ab", "acb"]),
        (EVERYTHING, ["a", "a/b/c"], []),
    ],
)
def test_a_pattern_covers_what_it_matches_and_everything_beneath(pattern: str, covered: list[str], not_covered: list[str]):
    assert [path for path in covered if not covers([pattern], path)] == []
    assert outside([pattern], [*covered, *not_covered]) == not_covered


@pytest.mark.parametrize(
    ("written", "kept"),
    [("./src//", "src/"), ("src/./a", "src/a"), (".", EVERYTHING), ("./", EVERYTHING), ("**/**/a", "**/a"), ("a**b", "a*b")],
)
def test_a_pattern_has_one_normal_form(written: str, kept: str):
    assert problem(written) == ""
    assert normal(written) == normal(kept) == kept


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "not empty"),
        ("  ", "not empty"),
        ("/etc/passwd", "from its top"),
        ("../other", "leads out"),
        ("src/../../x", "leads out"),
        ("src\\a.py", "separated by `/`"),
        ("a\nb", "control characters"),
        (".git/hooks/", "never part of a patch"),
        ("sub/.GIT", "never part of a patch"),
    ],
)
def test_what_cannot_be_a_pattern_says_why(pattern: str, words: str):
    assert words in problem(pattern)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (["src/"], ["src/a.py"], "src/a.py"),
        (["src/a.py"], ["docs/", "src/"], "src/"),
        (["src/a.py"], ["src/b.py"], ""),
        (["docs/*.md"], ["docs/a*"], "docs/a*"),
        (["docs/*.md"], ["docs/*.txt"], ""),
        (["*.md"], ["docs/"], ""),
        (["src/**/x"], ["src/a/b"], "src/a/b"),
        (["**/*.py"], ["docs/"], "docs/"),
        (["a/?"], ["a/bc"], ""),
        (["."], ["x"], "x"),
        ([], ["x"], ""),
    ],
)
def test_sets_overlap_where_a_path_is_in_both(one: list[str], other: list[str], shared: str):
    assert overlap(tuple(map(normal, one)), tuple(map(normal, other))) == shared


PARTS = st.sampled_from(["a", "b", "ab", "*", "?", "a*", "*b", "a?b", "**", "*a*"])
PATTERNS = st.lists(PARTS, min_size=1, max_size=4).map("/".join).map(normal)
PATHS = st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=5).map("/".join)


@given(PATTERNS, PATTERNS, PATHS)
def test_two_patterns_that_cover_one_path_overlap_both_ways(one: str, other: str, path: str):
    if covers([one], path) and covers([other], path):
        assert overlap((one,), (other,)) == other
        assert overlap((other,), (one,)) == one


NAMES = ["".join(letters) for length in range(1, 7) for letters in itertools.product("ab", repeat=length)]


@given(st.text("ab*?", min_size=1, max_size=4).map(normal), st.text("ab*?", min_size=1, max_size=4).map(normal))
def test_parts_overlap_exactly_if_a_name_fits_both(one: str, other: str):
    """So nobody waits for nothing either; six letters are enough for parts of four."""
    assert bool(overlap((one,), (other,))) == any(covers([one], name) and covers([other], name) for name in NAMES)


@given(PATTERNS, PATHS)
def test_a_path_is_covered_exactly_if_the_pattern_reaches_it(pattern: str, path: str):
    """Covering is one-sided: a pattern beneath a path overlaps with the path, and does not cover it."""
    if covers([pattern], path):
        assert overlap((pattern,), (path,)) == path
        assert covers([pattern], f"{path}/below")
