from claude_conductor.supervisor.scope import scope_prefix

ENVIRONMENT = {"XDG_RUNTIME_DIR": "/run/user/1000"}


def which(name: str):
    return f"/usr/bin/{name}"


def test_a_user_manager_gives_a_delegated_scope():
    present = {"/run/user/1000/systemd/private", "/run/user/1000/bus"}

    prefix = scope_prefix(ENVIRONMENT, which, present.__contains__)

    assert prefix == [
        *("/usr/bin/systemd-run", "--user", "--scope", "--quiet", "--collect"),
        *("-p", "Delegate=yes", "--"),
    ]


def test_without_systemd_or_its_user_manager_there_is_no_prefix():
    assert scope_prefix(ENVIRONMENT, lambda _: None, lambda _: True) == []
    assert scope_prefix({}, which, lambda _: True) == []
    assert scope_prefix(ENVIRONMENT, which, lambda _: False) == []
