"""Workspaces: what a clone is made of, and what is believed of it afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent_sidecar.run.files import beneath, tree
from agent_sidecar.run.files.changes import Collected, collect
from agent_sidecar.run.files.git import Git
from agent_sidecar.run.files.source import Filled, fill
from agent_sidecar.run.task import EmptySource, FolderSource, GitSource
from claude_conductor.errors import WorkspaceError
from tests.fakes.repository import git as run


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    place = tmp_path / "repository"
    place.mkdir()
    run(place, "init", "-q", "-b", "main")
    (place / "a.txt").write_text("one\ntwo\n")
    (place / "dos.txt").write_bytes(b"one\r\n")
    (place / "tool.sh").write_text("#!/bin/sh\n")
    (place / "tool.sh").chmod(0o755)
    (place / ".gitattributes").write_text("*.txt text eol=crlf\n*.bin filter=evil\n")
    (place / "x.bin").write_bytes(b"\0\1\2")
    (place / ".gitignore").write_text("build/\n")
    (place / "sub").mkdir()
    (place / "sub/b.txt").write_text("b\n")
    (place / "link").symlink_to("a.txt")
    run(place, "add", "-A")
    run(place, "commit", "-qm", "first")
    return place


@pytest.fixture
def git(tmp_path: Path) -> Git:
    runs = Git(tmp_path / "own/gitconfig", os.environ["PATH"])
    runs.prepare()
    return runs


async def clone(repository: Path, git: Git, tmp_path: Path, ref: str = "") -> Filled:
    return await fill(GitSource(str(repository), ref), tmp_path / "ws", tmp_path / "own/store", git, "agent-1")


async def gather(filled: Filled, git: Git, tmp_path: Path) -> Collected:
    assert filled.base is not None
    return await collect(tmp_path / "ws", filled.base, tmp_path / "own/patches", git, ["prompt.txt"])


async def test_an_untouched_clone_has_no_patch_whatever_its_attributes_say(repository: Path, git: Git, tmp_path: Path):
    filled = await clone(repository, git, tmp_path)
    collected = await gather(filled, git, tmp_path)
    assert collected == Collected(None, ())
    assert run(tmp_path / "ws", "status", "--porcelain") == ""
    assert run(tmp_path / "ws", "branch", "--show-current") == "main"


async def test_a_patch_applies_to_the_commit_it_names(repository: Path, git: Git, tmp_path: Path):
    filled = await clone(repository, git, tmp_path)
    workspace = tmp_path / "ws"
    (workspace / "a.txt").write_text("one\nTWO\nthree\n")
    (workspace / "sub/b.txt").unlink()
    (workspace / "x.bin").write_bytes(bytes(range(256)))
    (workspace / "tool.sh").chmod(0o644)
    (workspace / "link").unlink()
    (workspace / "link").symlink_to("/etc/passwd")
    (workspace / 'new "file"\n.txt').write_text("odd name\n")
    (workspace / "build").mkdir()
    (workspace / "build/out").write_text("ignored\n")
    (workspace / ".conductor").mkdir()
    (workspace / ".conductor/notes").write_text("ours\n")
    (workspace / "prompt.txt").write_text("ours\n")
    collected = await gather(filled, git, tmp_path)
    assert collected.patch is not None
    assert collected.patch.path.name == collected.patch.artefact_id
    assert (collected.patch.files, collected.patch.added_lines, collected.patch.removed_lines) == (6, 4, 3)
    assert filled.base is not None
    assert filled.base.commit == run(repository, "rev-parse", "HEAD")
    run(repository, "apply", "--index", str(collected.patch.path))
    assert (repository / "a.txt").read_text() == "one\nTWO\nthree\n"
    assert not (repository / "sub/b.txt").exists()
    assert (repository / "x.bin").read_bytes() == bytes(range(256))
    assert (repository / "link").readlink() == Path("/etc/passwd")
    assert (repository / 'new "file"\n.txt').read_text() == "odd name\n"
    assert not (repository / "build").exists()
    assert not (repository / "prompt.txt").exists()


@pytest.mark.parametrize("how", ["plain", "borrowed", "linked worktree"])
async def test_a_commit_that_nothing_refers_to_is_cloned_as_well(repository: Path, git: Git, tmp_path: Path, how: str):
    if how == "borrowed":
        run(tmp_path, "clone", "-q", "--shared", str(repository), str(tmp_path / "other"))
        repository = tmp_path / "other"
    elif how == "linked worktree":
        run(repository, "worktree", "add", "-q", str(tmp_path / "other"))
        repository = tmp_path / "other"
    loose = run(repository, "commit-tree", run(repository, "rev-parse", "HEAD^{tree}"), "-p", "HEAD", "-m", "loose")

    filled = await clone(repository, git, tmp_path, loose)

    assert filled.base is not None
    assert filled.base.commit == loose
    assert run(tmp_path / "ws", "rev-parse", "HEAD") == loose
    assert run(repository, "for-each-ref", "--contains", loose) == ""


async def test_commits_the_agent_made_are_part_of_the_patch(repository: Path, git: Git, tmp_path: Path):
    filled = await clone(repository, git, tmp_path)
    (tmp_path / "ws/a.txt").write_text("changed\n")
    run(tmp_path / "ws", "commit", "-qam", "mine")
    collected = await gather(filled, git, tmp_path)
    assert collected.patch is not None
    assert collected.patch.files == 1


async def test_nothing_planted_in_the_clone_is_executed_and_all_of_it_is_named(repository: Path, git: Git, tmp_path: Path):
    filled = await clone(repository, git, tmp_path)
    workspace, witness = tmp_path / "ws", tmp_path / "witness"
    program = tmp_path / "evil.sh"
    program.write_text(f"#!/bin/sh\necho ran >> {witness}\ncat\n")
    program.chmod(0o755)
    for name in ("post-index-change", "pre-commit", "reference-transaction", "post-checkout"):
        hook = workspace / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_bytes(program.read_bytes())
        hook.chmod(0o755)
    with (workspace / ".git/config").open("a") as config:
        config.write(
            f'[core]\n\tfsmonitor = {program}\n[filter "evil"]\n\tclean = {program}\n[diff "evil"]\n\ttextconv = {program}\n'
        )
    (workspace / ".gitattributes").write_text("* filter=evil diff=evil\n")
    (workspace / "x.bin").write_bytes(b"changed")
    nested = workspace / "sub/nested"
    nested.mkdir()
    run(nested, "init", "-q")
    (nested / "f").write_text("f")
    run(nested, "add", "-A")
    run(nested, "commit", "-qm", "n")
    (nested / ".git/hooks/post-checkout").write_bytes(program.read_bytes())
    with (nested / ".git/config").open("a") as config:
        config.write(f"[core]\n\tfsmonitor = {program}\n")
    (workspace / ".git/hooks/pre-push").symlink_to("/bin/sh")
    # The control: git asked inside the clone does run what was planted there.
    run(workspace, "status")
    assert witness.exists()
    witness.unlink()
    collected = await gather(filled, git, tmp_path)
    assert not witness.exists()
    assert collected.patch is not None
    text = "\n".join(collected.warnings)
    for part in (
        ".git/hooks/pre-commit",
        "sub/nested/ is a git repository",
        "sub/nested/.git/hooks/post-checkout",
        "fsmonitor",
        "clean",
    ):
        assert part in text
    assert b"nested" not in collected.patch.path.read_bytes()


async def test_a_link_in_place_of_a_folder_leads_nowhere(repository: Path, git: Git, tmp_path: Path):
    filled = await clone(repository, git, tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b.txt").write_text("a secret of the host\n")
    workspace = tmp_path / "ws"
    (workspace / "sub/b.txt").unlink()
    (workspace / "sub").rmdir()
    (workspace / "sub").symlink_to(outside)
    collected = await gather(filled, git, tmp_path)
    assert collected.patch is not None
    text = collected.patch.path.read_text()
    assert "secret" not in text
    assert "deleted file mode 100644" in text
    assert "new file mode 120000" in text


async def test_pipes_and_sockets_are_skipped_with_a_warning_where_they_hide_a_file(repository: Path, git: Git, tmp_path: Path):
    filled = await clone(repository, git, tmp_path)
    workspace = tmp_path / "ws"
    (workspace / "a.txt").unlink()
    os.mkfifo(workspace / "a.txt")
    os.mkfifo(workspace / "other")
    collected = await gather(filled, git, tmp_path)
    assert any("a.txt" in warning for warning in collected.warnings)
    assert collected.patch is not None
    assert collected.patch.files == 1


async def test_a_branch_and_a_commit_can_be_asked_for(repository: Path, git: Git, tmp_path: Path):
    first = run(repository, "rev-parse", "HEAD")
    run(repository, "checkout", "-qb", "feature/x")
    (repository / "a.txt").write_text("feature\n")
    run(repository, "commit", "-qam", "second")
    run(repository, "checkout", "-q", "main")
    await clone(repository, git, tmp_path, "feature/x")
    assert (tmp_path / "ws/a.txt").read_text() == "feature\n"
    assert run(tmp_path / "ws", "branch", "--show-current") == "feature/x"
    tree.remove(tmp_path / "ws")
    tree.remove(tmp_path / "own/store")
    filled = await clone(repository, git, tmp_path, first[:10])
    assert filled.base is not None
    assert filled.base.commit == first


@pytest.mark.parametrize("ref", ["no-such-branch", "--upload-pack=/bin/false"])
async def test_an_unknown_ref_is_refused_by_name(repository: Path, git: Git, tmp_path: Path, ref: str):
    with pytest.raises(WorkspaceError, match="no commit called"):
        await clone(repository, git, tmp_path, ref)


@pytest.mark.parametrize("where", ["/nonexistent/repository", "--config=x"])
async def test_a_repository_that_is_not_there_is_refused(git: Git, tmp_path: Path, where: str):
    with pytest.raises(WorkspaceError):
        await fill(GitSource(where), tmp_path / "ws", tmp_path / "store", git, "a")


async def test_an_empty_repository_is_refused(git: Git, tmp_path: Path):
    (tmp_path / "r").mkdir()
    run(tmp_path / "r", "init", "-q")
    with pytest.raises(WorkspaceError, match="no commit yet"):
        await fill(GitSource(str(tmp_path / "r")), tmp_path / "ws", tmp_path / "store", git, "a")


async def test_a_folder_is_copied_with_links_as_links_and_without_pipes(git: Git, tmp_path: Path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "f").write_text("f")
    (source / "out").symlink_to("/etc")
    os.mkfifo(source / "pipe")
    filled = await fill(FolderSource(source), tmp_path / "ws", tmp_path / "store", git, "a")
    assert (tmp_path / "ws/f").read_text() == "f"
    assert (tmp_path / "ws/out").is_symlink()
    assert not (tmp_path / "ws/pipe").exists()
    assert filled.warnings == ("pipe is neither file, folder nor link and was not copied",)


async def test_an_empty_source_is_an_empty_folder(git: Git, tmp_path: Path):
    assert (await fill(EmptySource(), tmp_path / "ws", tmp_path / "store", git, "a")).base is None
    assert list((tmp_path / "ws").iterdir()) == []


def test_a_file_is_not_written_through_a_link(tmp_path: Path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws/.conductor").symlink_to(tmp_path / "outside")
    root = os.open(tmp_path / "ws", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError, match="conductor"):
            beneath.write(root, b".conductor/prompt.txt", b"x")
        with pytest.raises(OSError, match="not a path below"):
            beneath.write(root, b"../escape", b"x")
        (tmp_path / "ws/file").symlink_to(tmp_path / "outside/target")
        beneath.write(root, b"file", b"x")
    finally:
        os.close(root)
    assert list((tmp_path / "outside").iterdir()) == []
    assert (tmp_path / "ws/file").read_text() == "x"


def test_a_tree_goes_away_and_what_its_links_lead_to_stays(tmp_path: Path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/f").write_text("f")
    (tmp_path / "ws/closed/deep").mkdir(parents=True)
    (tmp_path / "ws/link").symlink_to(tmp_path / "kept")
    (tmp_path / "ws/closed").chmod(0)
    tree.remove(tmp_path / "ws")
    tree.remove(tmp_path / "ws")
    assert not (tmp_path / "ws").exists()
    assert (tmp_path / "kept/f").exists()
