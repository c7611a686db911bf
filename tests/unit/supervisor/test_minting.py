import hashlib
import subprocess
import sys

from claude_conductor.supervisor.minting import mint


def numbered():
    count = iter(range(100))
    return lambda size: f"token-{size}-{next(count)}"


def test_each_sidecar_gets_its_own_token_and_the_digests_match():
    tokens = mint(["a", "b"], None, numbered())

    assert tokens.sidecars == {"a": "token-32-0", "b": "token-32-1"}
    assert tokens.operator == "token-32-2"
    assert tokens.sidecar_digests["b"] == hashlib.sha256(b"token-32-1").hexdigest()
    assert tokens.operator_digest == hashlib.sha256(b"token-32-2").hexdigest()


def test_an_operator_token_that_exists_is_kept():
    assert mint([], "old", numbered()).operator == "old"


def test_tokens_are_not_in_the_repr():
    assert "token-32" not in repr(mint(["a"], None, numbered()))


def test_the_resident_process_imports_nothing_heavy():
    code = "import sys, claude_conductor.supervisor.__main__; print(*sys.modules)"

    loaded = set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())

    assert not loaded & {"hashlib", "ssl", "asyncio", "grpc", "pydantic", "yaml", "typer", "pathlib", "claude_conductor.clock"}
