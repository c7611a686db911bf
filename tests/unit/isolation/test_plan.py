from dataclasses import replace
from pathlib import Path

import pytest

from agent_sidecar.isolation import level as levels
from agent_sidecar.isolation import plan
from agent_sidecar.isolation.interface import Capabilities, Level, Limits, Mechanism, Plan, Refusal, Spec, Strength
from agent_sidecar.isolation.level import Want
from agent_sidecar.isolation.plan import HostFacts

ROOT = HostFacts(root=True, agent_uid=61200, homes=frozenset({Path("/root"), Path("/home/ann")}))
USER = HostFacts(root=False, agent_uid=1000)
SPEC = Spec("coder", "run-1", ("true",), {}, Path("/srv/w"), Path("/srv/s"), limits=Limits(workspace_bytes=0))
CAPPED = replace(SPEC, limits=Limits(workspace_bytes=1 << 30))


def capable(*missing: str, soft: tuple[str, ...] = ()) -> Capabilities:
    strength = (
        dict.fromkeys(levels.EVERY, Strength.YES) | dict.fromkeys(missing, Strength.NO) | dict.fromkeys(soft, Strength.SOFT)
    )
    found = [
        Mechanism(name, each, "as found", "" if each is Strength.YES else f"install {name}") for name, each in strength.items()
    ]
    return Capabilities("process", tuple(found))


def decide(level: Level, *missing: str, host: HostFacts = ROOT, spec: Spec = CAPPED) -> Plan | Refusal:
    return plan.decide(replace(spec, level=level), capable(*missing), host)


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("host", [ROOT, USER], ids=["root", "user"])
def test_a_host_with_everything_runs_every_level_without_loss(level, host):
    decided = decide(level, host=host)
    assert isinstance(decided, Plan)
    assert decided.effective_level is level
    assert decided.degraded == ()


@pytest.mark.parametrize("missing", levels.EVERY)
def test_strict_refuses_whatever_is_missing_and_names_it_with_its_remedy(missing):
    decided = decide(Level.STRICT, missing)
    assert isinstance(decided, Refusal)
    assert [each.name for each in decided.missing] == [missing]
    assert f"install {missing}" in str(decided)


REQUIRED_AT_MODERATE = {"bubblewrap", "user_namespace", "pid_namespace", "network_namespace", "seccomp", "own_uid", "staging",
                        "no_new_privs", "self_test"}  # fmt: skip


@pytest.mark.parametrize("missing", levels.EVERY)
def test_moderate_refuses_without_a_boundary_and_degrades_without_a_limit(missing):
    decided = decide(Level.MODERATE, missing)
    if missing in REQUIRED_AT_MODERATE:
        assert isinstance(decided, Refusal)
    else:
        assert isinstance(decided, Plan)
        assert [each.split(":")[0] for each in decided.degraded] == [missing]
        assert missing not in decided.in_force


@pytest.mark.parametrize("missing", levels.EVERY)
def test_minimal_refuses_only_to_run_as_root_or_with_new_privileges(missing):
    decided = decide(Level.MINIMAL, missing)
    assert isinstance(decided, Refusal) == (missing in {"own_uid", "staging", "no_new_privs"})


def test_several_missing_mechanisms_are_named_together():
    decided = decide(Level.STRICT, "seccomp", "cgroup.memory", "network_namespace")
    assert isinstance(decided, Refusal)
    assert {each.name for each in decided.missing} == {"seccomp", "cgroup.memory", "network_namespace"}


def test_a_soft_mechanism_is_not_enough_for_strict():
    decided = plan.decide(SPEC, capable(soft=("cgroup.memory",)), ROOT)
    assert isinstance(decided, Refusal)


def test_the_explicit_lower_level_is_offered_and_never_taken():
    decided = decide(Level.STRICT, "cgroup.memory")
    assert isinstance(decided, Refusal)
    assert "--level moderate" in str(decided)
    assert "--level minimal" in str(decide(Level.STRICT, "bubblewrap"))
    assert "--level" not in str(decide(Level.STRICT, "own_uid"))


def test_a_mechanism_that_was_not_probed_counts_as_missing():
    decided = plan.decide(SPEC, Capabilities("process", ()), ROOT)
    assert isinstance(decided, Refusal)
    assert len(decided.missing) >= 12


def test_no_level_runs_an_agent_as_host_uid_0():
    for level in Level:
        decided = decide(level, host=HostFacts(root=True, agent_uid=0))
        assert isinstance(decided, Refusal)
        assert "uid 0" in str(decided)


def test_an_ordinary_users_sidecar_needs_no_uid_of_its_own():
    decided = decide(Level.STRICT, "own_uid", "staging", host=USER)
    assert isinstance(decided, Plan)
    assert "own_uid" not in decided.in_force


def test_a_disk_cap_is_needed_only_where_one_is_asked_for():
    assert isinstance(decide(Level.STRICT, "disk", spec=SPEC), Plan)
    assert isinstance(decide(Level.STRICT, "disk", spec=CAPPED), Refusal)
    moderate = decide(Level.MODERATE, "disk", spec=CAPPED)
    assert isinstance(moderate, Plan)
    assert moderate.degraded


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize(
    "path",
    ["/", "/root", "/home", "/home/ann", "/etc", "/run", "/var/run/docker.sock", "/srv/project/.git", "relative", "/srv/../etc"],
)
def test_homes_system_folders_engine_sockets_and_git_data_are_shown_at_no_level(level, path):
    for spec in (replace(SPEC, toolchains=(Path(path),)), replace(SPEC, workspace=Path(path))):
        decided = decide(level, spec=spec)
        assert isinstance(decided, Refusal), path
        assert decided.missing[0].name == "mounts"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "a\nb", "a\0b", "x" * 200])
def test_a_name_that_cannot_be_a_folder_is_refused(name):
    assert isinstance(decide(Level.STRICT, spec=replace(SPEC, agent_id=name)), Refusal)
    assert isinstance(decide(Level.STRICT, spec=replace(SPEC, run_id=name)), Refusal)


@pytest.mark.parametrize(
    "changes",
    [
        {"argv": ()},
        {"argv": ("",)},
        {"argv": ("a\0--bind",)},
        {"environment": {"A": "x\0--bind\0/\0/host"}},
        {"environment": {"A\0B": "x"}},
        {"environment": {"A=B": "x"}},
        {"environment": {"": "x"}},
        {"toolchains": (Path("/opt/a\0b"),)},
        {"bridges": {18080: "../other.sock"}},
        {"bridges": {18080: "a=b"}},
        {"bridges": {80: "gateway.sock"}},
        {"bridges": {70000: "gateway.sock"}},
    ],
    ids=str,
)
def test_what_could_pass_as_an_option_of_the_sandbox_is_refused_at_every_level(changes):
    for level in Level:
        decided = decide(level, spec=replace(SPEC, **changes))
        assert isinstance(decided, Refusal)
        assert decided.missing[0].name == "spec"


def test_every_level_says_what_it_wants_of_every_mechanism():
    for level in Level:
        assert set(levels.WANTS[level]) == set(levels.EVERY)
    wanted = {name for level in Level for name, want in levels.WANTS[level].items() if want is Want.WANTED}
    assert wanted <= set(levels.DEGRADED)
