"""What this host can really do for isolation: each mechanism is tried by using it, the way a run would."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent_sidecar.isolation import level as levels
from agent_sidecar.isolation import remedy
from agent_sidecar.isolation.barriers.view import HostView
from agent_sidecar.isolation.bubblewrap import Bubblewrap
from agent_sidecar.isolation.interface import Capabilities, Mechanism, Strength
from agent_sidecar.isolation.kernel.cgroup_layout import Layout
from agent_sidecar.isolation.kernel.cgroup_places import Found
from agent_sidecar.isolation.launcher_client import LauncherClient, Order, real, write_all
from agent_sidecar.isolation.slot import Slot

TRIAL_SECONDS = 10.0
_SHELL = Path("/bin/sh")
_CHECK = 'while read -r key value; do [ "$key" = %s: ] && [ "$value" = %d ] && exit 0; done </proc/self/status; exit 9'
_FILTERED, _UNPRIVILEGED = _CHECK % ("Seccomp", 2), _CHECK % ("NoNewPrivs", 1)
_STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (levels.USER_NAMESPACE, ("--unshare-user",)),
    (levels.PID_NAMESPACE, ("--unshare-user", "--unshare-pid", "--proc", "/proc")),
    (levels.NETWORK_NAMESPACE, ("--unshare-user", "--unshare-net")),
    (levels.NESTING_OFF, ("--unshare-user", "--disable-userns")),
)
_DESCRIPTORS = ("stdin", "stdout", "stderr", "report", "seccomp")


@dataclass(frozen=True, slots=True)
class Host:
    """What was found of the host before anything is tried in it."""

    slot: Slot
    bubblewrap: Bubblewrap | None
    bubblewrap_problem: str
    view: HostView
    view_folder: Path
    seccomp: bytes | None
    layout: Layout
    groups: Found
    systemd: bool


def capabilities(host: Host, launcher: LauncherClient) -> Capabilities:
    """Try every mechanism; blocks for 20-80 ms."""
    root = os.geteuid() == 0
    tried = _trials(host, launcher)
    mechanisms = [
        _bubblewrap(host),
        *(_from_trial(host, name, tried) for name, _ in _STEPS),
        _seccomp(host, tried),
        *(_group(host, name) for name in (levels.MEMORY, levels.CPU, levels.PIDS)),
        _kill(host),
        _own_uid(host, root=root),
        _staging(launcher, root=root),
        _disk(),
        _no_new_privs(tried),
        _self_test(),
    ]
    return Capabilities("process", tuple(mechanisms))


def host_view(masked: Sequence[str], etc: Path) -> HostView:
    """Find how this host lays out its system folders."""
    system: dict[str, str] = {}
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/") / name
        if path.is_symlink():
            system[str(path)] = str(path.readlink())
        elif path.is_dir():
            system[str(path)] = ""
    return HostView(system, tuple(each for each in masked if _readable_by_all(Path(each))), etc)


def _readable_by_all(path: Path) -> bool:
    return path.exists() and bool(path.stat().st_mode & stat.S_IROTH)


def systemd_runs() -> bool:
    """Tell whether systemd is the init of this host (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def _trials(host: Host, launcher: LauncherClient) -> Mapping[str, str]:
    """Return for each step what went wrong or nothing. If all of them work at once, each alone is not tried."""
    if host.bubblewrap is None:
        return dict.fromkeys((name for name, _ in _STEPS), host.bubblewrap_problem) | _plain_trials(host, launcher)
    every = ("--unshare-all", "--unshare-user", "--disable-userns", "--proc", "/proc")
    filtered = (*every, "--seccomp", str(_DESCRIPTORS.index("seccomp"))) if host.seccomp else every
    problem = _try(host, launcher, filtered, ("/bin/sh", "-c", _FILTERED if host.seccomp else "exit 0"))
    if not problem:
        return dict.fromkeys((name for name, _ in _STEPS), "") | {levels.SECCOMP: "", levels.NO_NEW_PRIVS: ""}
    found = {name: _try(host, launcher, words, ("/bin/sh", "-c", "exit 0")) for name, words in _STEPS} | _plain_trials(
        host, launcher
    )
    # Each works alone and all of them together do not: what is left is the filter in its place.
    return found if any(found.values()) else found | {levels.SECCOMP: problem}


def _plain_trials(host: Host, launcher: LauncherClient) -> dict[str, str]:
    """Try without bubblewrap the two that a level without it needs as well."""
    filtered = _run(host, launcher, "/bin/sh", ("sh", "-c", _FILTERED), (), (host.seccomp or b"").hex())
    unprivileged = _run(host, launcher, "/bin/sh", ("sh", "-c", _UNPRIVILEGED), ())
    return {levels.SECCOMP: filtered, levels.NO_NEW_PRIVS: unprivileged}


def _try(host: Host, launcher: LauncherClient, words: Sequence[str], command: Sequence[str]) -> str:
    if host.bubblewrap is None:
        return host.bubblewrap_problem
    system = ["--ro-bind", "/usr", "/usr"]
    for path, link in host.view.system.items():
        system += ["--symlink", link, path] if link else ["--ro-bind", path, path]
    argv = ("bwrap", *system, "--dev", "/dev", *words, "--die-with-parent", "--", *command)
    return _run(host, launcher, str(host.bubblewrap.path), argv, host.bubblewrap.folders)


def _run(
    host: Host, launcher: LauncherClient, program: str, argv: tuple[str, ...], folders: Sequence[Path], filtered: str = ""
) -> str:
    """Run a program the way an agent is started; return what went wrong or nothing."""
    order = Order(
        program=program,
        argv=argv,
        environment={"PATH": "/usr/bin:/bin"},
        folder="/",
        uid=host.slot.uid,
        gid=host.slot.gid,
        rlimits=(),
        processors=tuple(sorted(os.sched_getaffinity(0))),
        stage=tuple(real(each) for each in (*folders, host.view_folder, host.view.etc)),
        seccomp=filtered,
    )
    made = [os.memfd_create(name, os.MFD_CLOEXEC) for name in _DESCRIPTORS]
    try:
        write_all(made[-1], host.seccomp or b"")
        status = launcher.run("probe", order, made, TRIAL_SECONDS)
        said = b" ".join(_content(made[_DESCRIPTORS.index(name)]) for name in ("stderr", "report"))
    finally:
        for descriptor in made:
            os.close(descriptor)
    if status == 0:
        return ""
    return said.decode(errors="replace").strip() or f"it ended with status {status}"


def _content(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, 500)


def _bubblewrap(host: Host) -> Mechanism:
    if host.bubblewrap is None:
        return Mechanism(levels.BUBBLEWRAP, Strength.NO, host.bubblewrap_problem, remedy.INSTALL_BUBBLEWRAP)
    return Mechanism(levels.BUBBLEWRAP, Strength.YES, f"{host.bubblewrap.version} at {host.bubblewrap.path}")


def _from_trial(host: Host, name: str, tried: Mapping[str, str]) -> Mechanism:
    problem = tried[name]
    if not problem:
        return Mechanism(name, Strength.YES, "a trial run worked")
    if host.bubblewrap is None:
        return Mechanism(name, Strength.NO, problem, remedy.INSTALL_BUBBLEWRAP)
    return Mechanism(name, Strength.NO, problem, _namespace_remedy(host.bubblewrap.path))


def _namespace_remedy(program: Path) -> str:
    switches = {"kernel/apparmor_restrict_unprivileged_userns": "1", "kernel/unprivileged_userns_clone": "0"}
    on = [name for name, value in switches.items() if _sysctl(name) == value]
    if "kernel/apparmor_restrict_unprivileged_userns" in on:
        return remedy.profile_for(program)
    if on:
        return "sudo sysctl kernel.unprivileged_userns_clone=1"
    if _sysctl("user/max_user_namespaces") == "0":
        return remedy.USER_NAMESPACES
    return "in a container the container is the boundary: use the isolation driver of that platform"


def _sysctl(name: str) -> str:
    path = Path("/proc/sys") / name
    return path.read_text().strip() if path.exists() else ""


def _seccomp(host: Host, tried: Mapping[str, str]) -> Mechanism:
    if host.seccomp is None:
        detail = f"no system call numbers are known for {os.uname().machine}"
        return Mechanism(levels.SECCOMP, Strength.NO, detail, "use a machine with x86_64 or aarch64")
    problem = tried[levels.SECCOMP]
    if problem:
        return Mechanism(levels.SECCOMP, Strength.NO, problem, "use a kernel with CONFIG_SECCOMP_FILTER")
    return Mechanism(levels.SECCOMP, Strength.YES, f"deny list of {len(host.seccomp) // 8} instructions")


def _no_new_privs(tried: Mapping[str, str]) -> Mechanism:
    if tried[levels.NO_NEW_PRIVS]:
        return Mechanism(levels.NO_NEW_PRIVS, Strength.NO, tried[levels.NO_NEW_PRIVS], "use a kernel of Linux 3.5 or newer")
    return Mechanism(levels.NO_NEW_PRIVS, Strength.YES, "prctl(2)")


def _group(host: Host, name: str) -> Mechanism:
    controller = name.removeprefix("cgroup.")
    places = host.groups.places
    place = {"memory": places.memory, "cpu": places.cpu, "pids": places.pids}[controller]
    if place is not None:
        return Mechanism(name, Strength.YES, f"cgroup v{place.version} below {place.parent}")
    return Mechanism(name, Strength.NO, host.groups.problems.get(controller, "not found"), _group_remedy(host, controller))


def _kill(host: Host) -> Mechanism:
    places = host.groups.places
    if places.kill is not None:
        return Mechanism(levels.KILL, Strength.YES, f"cgroup.kill below {places.kill.parent}")
    if places.distinct():
        return Mechanism(levels.KILL, Strength.YES, "SIGKILL to every process of the groups until they are empty")
    return Mechanism(levels.KILL, Strength.NO, host.groups.problems.get("kill", "no cgroups"), _group_remedy(host, "pids"))


def _group_remedy(host: Host, controller: str) -> str:
    if host.layout.carrier(controller) is None:
        return remedy.mounting(controller)
    return remedy.delegation(host.layout, os.geteuid(), systemd=host.systemd) if os.geteuid() else remedy.WRITABLE_GROUPS


def _own_uid(host: Host, *, root: bool) -> Mechanism:
    if not root:
        return Mechanism(levels.OWN_UID, Strength.NO, "only a root sidecar can give agents uids of their own")
    return Mechanism(levels.OWN_UID, Strength.YES, f"uid {host.slot.uid}")


def _staging(launcher: LauncherClient, *, root: bool) -> Mechanism:
    if not root:
        return Mechanism(levels.STAGING, Strength.NO, "not needed: agents run as the sidecar's own uid")
    if launcher.staging == "ok":
        return Mechanism(levels.STAGING, Strength.YES, "private mount namespace with a root of its own")
    return Mechanism(
        levels.STAGING, Strength.NO, launcher.staging, "give the sidecar CAP_SYS_ADMIN, or run it as an ordinary user"
    )


def _disk() -> Mechanism:
    detail = "no quota the kernel enforces is set up for workspaces; single files are bounded"
    return Mechanism(levels.DISK, Strength.NO, detail, "run without a workspace cap: --disk 0")


def _self_test() -> Mechanism:
    if _SHELL.exists() and stat.S_ISREG(_SHELL.stat().st_mode):
        return Mechanism(levels.SHELL, Strength.YES, str(_SHELL.resolve()))
    return Mechanism(levels.SHELL, Strength.NO, f"{_SHELL} is missing", "install a POSIX shell as /bin/sh")
