from pathlib import Path

from claude_conductor.supervisor import logs


def test_a_log_within_its_bound_is_left_alone(tmp_path: Path):
    log = tmp_path / "a.log"
    log.write_bytes(b"x" * 100)

    assert not logs.rotate(str(log), bound=100)
    assert log.stat().st_size == 100


def test_a_log_beyond_its_bound_keeps_its_end_and_two_predecessors(tmp_path: Path):
    log = tmp_path / "a.log"
    with log.open("ab", buffering=0) as writer:  # a program that keeps its file open
        for generation in (b"1", b"2", b"3", b"4"):
            writer.write(b"-" * 50 + generation * 60)
            assert logs.rotate(str(log), bound=60)
        writer.write(b"new")

    assert log.read_bytes() == b"new"
    assert (tmp_path / "a.log.1").read_bytes() == b"4" * 60
    assert (tmp_path / "a.log.2").read_bytes() == b"3" * 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "a.log.1", "a.log.2"]


def test_a_log_that_cannot_be_copied_is_cut_all_the_same(tmp_path: Path):
    log = tmp_path / "a.log"
    log.write_bytes(b"x" * 100)
    (tmp_path / "a.log.1").mkdir()
    (tmp_path / "a.log.2").write_text("in the way")

    assert logs.rotate(str(log), bound=10)
    assert log.stat().st_size == 0


def test_the_tail_is_bounded_and_begins_with_this_life(tmp_path: Path):
    log = tmp_path / "a.log"
    log.write_text("old\n" * 10 + "new 1\nnew 2\n")

    assert logs.tail(str(log), since=40) == ("new 1", "new 2")
    assert logs.tail(str(log), since=4000)[-1] == "new 2"
    log.write_text("line\n" * 5000)
    assert len(logs.tail(str(log))) == 20
    assert logs.tail(str(tmp_path / "none")) == ()
