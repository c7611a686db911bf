"""The verdict table of docs/design/escape.md, case by case and level by level; `python -m tests.escape.table` prints it."""

from __future__ import annotations

import sys

from agent_sidecar.isolation.interface import Level
from tests.escape.attacks import ATTACKS, Attack

CASES = (
    *("list another agent's workspace", "read its secret", "write it", "leave by `..`", "leave by an absolute link"),
    *("leave by a relative link", "have the sidecar read a linked result", "swap a link between check and use"),
    *("hard link to a foreign file", "the host's homes", "password and shadow files", "the host's temporary folders"),
    *("write system folders", "write the sandbox's root", "device node in the workspace"),
    *("pipe, socket or huge sparse file as a result", "hook in the main repository", "hook in a nested repository"),
    *("settings with a monitor or filter", "a `.git` that points elsewhere", "see other processes"),
    *("read the sidecar's environment", "signal the sidecar", "signal everybody", "ptrace", "read or write another's memory"),
    *("take another's descriptor", "go through another's root", "inherited descriptors", "mount", "remount writable", "unmount"),
    *("unshare namespaces", "clone into namespaces", "join namespaces", "chroot, pivot_root", "bpf", "perf", "userfaultfd"),
    *("io_uring", "keyrings", "open by handle", "modules, kexec", "sysctl, sysfs, sysrq", "foreign system call entries"),
    *("setuid copy in the workspace", "the system's setuid programs", "setuid(0), groups, capabilities", "file capabilities"),
    *("limits, real time, oom_score", "TIOCSTI and the like", "loopback TCP of the host", "abstract sockets"),
    *("somebody else's socket", "a container engine's socket", "datagrams, name servers", "raw, packet, vsock, alg"),
    *("names that the list could be fooled with", "data in looked-up names", "past the proxy", "memory", "forks, threads"),
    *("processors", "open files", "fill the disk", "make files without end", "flood of output", "leave the cgroup"),
    *("daemons that ignore TERM", "the sidecar is killed", "claim to be somebody else", "secrets in environment, files, memory"),
)
"""Cases 1 to 72, in the order of the research."""

FILES, ESCAPE = "tests/unit/sidecar/test_files.py", "tests/escape"
ELSEWHERE: dict[int, tuple[str, ...]] = {
    7: (f"{ESCAPE}/test_collected.py::test_a_result_that_is_a_link_is_taken_as_the_link",),
    8: (f"{ESCAPE}/test_collected.py::test_a_link_swapped_between_check_and_use_is_not_followed",),
    16: (
        f"{ESCAPE}/test_collected.py::test_a_result_that_never_ends_a_read_is_not_read",
        f"{ESCAPE}/test_collected.py::test_a_huge_sparse_result_is_refused_before_it_is_read",
    ),
    18: (f"{FILES}::test_nothing_planted_in_the_clone_is_executed_and_all_of_it_is_named",),
    19: (f"{FILES}::test_nothing_planted_in_the_clone_is_executed_and_all_of_it_is_named",),
    20: (f"{ESCAPE}/test_collected.py::test_a_clone_that_points_to_another_git_folder_is_read_as_before",),
    58: (f"{ESCAPE}/test_lists.py::test_no_other_way_of_writing_leads_past_the_list",),
    59: (f"{ESCAPE}/test_lists.py::test_no_other_way_of_writing_leads_past_the_list",),
    67: (f"{ESCAPE}/test_endings.py::test_a_flood_of_output_costs_the_sidecar_no_memory",),
    69: (f"{ESCAPE}/test_endings.py::test_a_daemon_that_ignores_term_outlives_a_plain_process_and_no_sandbox",),
    70: (f"{ESCAPE}/test_endings.py::test_a_killed_holder_of_fifty_sandboxes_leaves_groups_alone_and_the_next_one_sweeps_them",),
    71: ("tests/integration/test_hostile_streams.py::test_whatever_a_message_claims_its_recipient_is_told_who_sent_it",),
}
"""Cases that are no program in a sandbox, and the tests that hold them."""
NO_LIST = frozenset({58, 59})
"""At minimal, which has the host's network, a list of hosts is not enforced, and the result of a task says so."""


def verdict(attacks: tuple[Attack, ...], level: Level) -> str:
    """Return in words what the level does with these."""
    through = [each.name for each in attacks if level in each.open_at]
    if not through:
        return "shut"
    return "open" if len(through) == len(attacks) else f"open: {'; '.join(through)}"


def row(number: int, title: str) -> str:
    attacks = tuple(each for each in ATTACKS if each.number == number)
    if attacks:
        verdicts = [verdict(attacks, level) for level in Level]
    else:
        verdicts = ["open" if number in NO_LIST and level is Level.MINIMAL else "shut" for level in Level]
    tests = len(attacks) * len(Level) + len(ELSEWHERE.get(number, ()))
    return f"| {number or '-'} | {title} | {' | '.join(verdicts)} | {tests} |"


def table() -> str:
    """Return the table as Markdown."""
    head = ["| case | what | strict | moderate | minimal | tests |", "|---|---|---|---|---|---|"]
    rows = [row(number, title) for number, title in enumerate(CASES, 1)]
    return "\n".join((*head, *rows, row(0, "found beside them"))) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
