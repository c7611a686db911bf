"""What does each reason mean, how is it checked, and how is it fixed? The sentences of `conductor explain`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Explanation:
    """More than fits into an error."""

    cause: str
    """How one gets there."""
    check: str
    """A command that shows whether this is it."""


EXPLANATIONS: Final = {
    "INTERNAL": Explanation(
        "A part of Conductor met something it was not written for. It is a mistake of ours, not of yours.",
        "`conductor logs --component controlplane` has the details at the time of the call",
    ),
    "INVALID_ARGUMENT": Explanation(
        "A flag or a field has a value outside of what it may have; the message names the field and what it takes.",
        "`conductor COMMAND --help` shows what each flag takes; the comments in proto/ say it for each field",
    ),
    "MALFORMED_FRAME": Explanation(
        "A sidecar or a client sent a frame this version does not know, or an envelope and its header do not fit together.",
        "`conductor status` shows the version of the control plane, `conductor agents list -o json` those of the sidecars",
    ),
    "SETTINGS_INVALID": Explanation(
        "A settings file, a CONDUCTOR_* variable or a context has a key that does not exist or a value that cannot be used.",
        "`conductor config validate FILE` checks a file; `conductor config show --show-origin` shows where each value comes from",
    ),
    "AGENT_NOT_FOUND": Explanation(
        "No sidecar with this id has ever connected to this control plane. Ids are agent-1, agent-2 ... and those of `agents`.",
        "`conductor agents list`; `conductor context list` shows whether you talk to the control plane you mean",
    ),
    "TASK_NOT_FOUND": Explanation(
        "The id is wrong, its beginning is not enough, the task was finished too long ago, or it is another control plane's.",
        "`conductor tasks list`; `conductor context list`",
    ),
    "SCHEDULE_NOT_FOUND": Explanation(
        "The name or the id is wrong, the schedule was deleted, or it is another control plane's. An id is given whole.",
        "`conductor schedules list`; `conductor context list`",
    ),
    "SCHEDULE_EXISTS": Explanation(
        "Names of schedules are given once. The same schedule again is no error; one with another cron expression, zone, "
        "overlap rule or task is.",
        "`conductor schedules show NAME`",
    ),
    "MESSAGE_NOT_FOUND": Explanation(
        "The id is wrong, or the message reached its final state more than 24 hours ago.",
        "`conductor messages list`",
    ),
    "MESSAGE_NOT_DEAD": Explanation(
        "Only a message that was shown to too many agent processes can be sent again or removed. This one waits, was "
        "acknowledged, bounced or expired, or was sent again already.",
        "`conductor trace MESSAGE` shows every step it made",
    ),
    "ARTEFACT_NOT_FOUND": Explanation(
        "The task left no such file: it changed nothing, its workspace was no repository, or it has not ended yet.",
        "`conductor tasks show TASK` lists what a task left",
    ),
    "AGENT_OFFLINE": Explanation(
        "The message was to be handed to a live agent, and there is none at the moment.",
        "`conductor agents list` shows its state and since when",
    ),
    "IDEMPOTENCY_CONFLICT": Explanation(
        "A request with this key was made before, and it asked for something else.",
        "`conductor tasks list` shows what was made with it",
    ),
    "BUDGET_EXHAUSTED": Explanation(
        "A subtask, or a model call, would need more than is left of the task's budget: the rest is used, or reserved by "
        "subtasks and calls that go on.",
        "`conductor tasks show TASK` shows limit, used, reserved and left",
    ),
    "ILLEGAL_TRANSITION": Explanation(
        "The task has ended already, or is not in a state in which this makes sense; or its question is closed.",
        "`conductor tasks show TASK`",
    ),
    "STALE_LEASE": Explanation(
        "An agent reported on a task that was taken from it: it was silent for longer than its lease, or the task was cancelled.",
        "`conductor tasks show TASK` lists every attempt; `lease_seconds` is how long an agent may be silent",
    ),
    "UNAUTHENTICATED": Explanation(
        "No token came with the call, or one this control plane does not know, for example another home's.",
        "`ls -l CONDUCTOR_HOME/run/operator.token`; `conductor context list`; CONDUCTOR_TOKEN wins over both",
    ),
    "PERMISSION_DENIED": Explanation(
        "The token is known, and its owner has no right to do this. Agents, for example, may cancel their own children only.",
        "the call's comment in proto/ names its callers",
    ),
    "CERTIFICATE_UNUSABLE": Explanation(
        "The control plane listens on no network and so has no authority, a file of the authority is missing or open to others, "
        "or a certificate has ended and what would renew it is not there.",
        "`conductor certs show`; `ls -l CONDUCTOR_HOME/authority/present/`",
    ),
    "JOIN_REFUSED": Explanation(
        "A join token is good for one sidecar and a few minutes. Which of the reasons it is, is in the control plane's log and "
        "not told to who asks.",
        "`conductor tokens list`; `conductor logs --component controlplane`",
    ),
    "TOKEN_NOT_FOUND": Explanation(
        "The id is wrong, the token ended more than a week ago, or it belongs to another tenant.",
        "`conductor tokens list`",
    ),
    "AGENT_QUARANTINED": Explanation(
        "Somebody took the agent out with `conductor agents quarantine`: its streams were closed and what it had was revoked.",
        "`conductor agents list`; the event log has who and why",
    ),
    "AUDIT_BROKEN": Explanation(
        "Somebody changed, dropped, added or moved a record of the audit chain in the store or in the export, or cut its end.",
        "`conductor audit verify` of an older export; `conductor audit list --last 1000`",
    ),
    "POLICY_DENIED": Explanation(
        "A rule says that this sender does not write to this recipient. Tasks, for example, write within their family only: to "
        "their parent, their subtasks and those of the same parent.",
        "the error names the rule; `conductor config show` has `policy.messages`",
    ),
    "RATE_LIMITED": Explanation(
        "One sender sends more messages than an agent does that works properly; often it is a loop.",
        "`conductor config show` has `limits.messages_a_second` and `limits.messages_at_once`",
    ),
    "PAYLOAD_TOO_LARGE": Explanation(
        "Messages have at most 1 MiB by default. Larger things are artefacts, which are sent in pieces.",
        "`conductor config show` has `limits.payload_bytes`",
    ),
    "MAILBOX_FULL": Explanation(
        "The recipient does not read as fast as others write to it, or has not connected for a long time.",
        "`conductor messages list --to AGENT --state accepted`",
    ),
    "SUBSCRIPTION_LIMIT": Explanation(
        "A mailbox wanted more topics than `limits.subscriptions`, or a topic has as many mailboxes as `limits.subscribers`.",
        "`conductor messages topics`",
    ),
    "HOP_LIMIT_REACHED": Explanation(
        "Agents forward the same message to each other, probably in a circle.",
        "`conductor messages show MESSAGE` shows its way",
    ),
    "MESSAGE_EXPIRED": Explanation(
        "The message was older than its time to live when it arrived.",
        "`conductor messages show MESSAGE`; `limits.message_seconds` is the time to live of those that set none",
    ),
    "STORE_UNAVAILABLE": Explanation(
        "The disk is full, not writable, or broken. Nothing that was refused is stored, nothing that was accepted is lost.",
        "`df CONDUCTOR_HOME`; `conductor logs --component controlplane`",
    ),
    "STORE_UNREACHABLE": Explanation(
        "The Redis server is stopped, restarts, or is cut off. Nothing that was refused is stored; what was accepted is there "
        "again when it is back, as far as the server kept it.",
        "`conductor doctor`; `redis-cli ping`; `conductor logs --component controlplane`",
    ),
    "CONTROL_PLANE_UNAVAILABLE": Explanation(
        "Nothing answers at the address: the control plane is restarting, was stopped, or never ran there.",
        "`conductor status`; `conductor logs --component supervisor`; `conductor context list`",
    ),
    "PROTOCOL_VERSION_MISMATCH": Explanation(
        "Command line, control plane and sidecars are of versions too far apart, for example after an upgrade without a restart.",
        "`conductor --version`; `conductor status`",
    ),
    "DEADLINE_EXCEEDED": Explanation(
        "The answer did not come in the time that was allowed. What was asked for may still happen.",
        "`conductor status`; the machine may be overloaded (uptime)",
    ),
    "ISOLATION_REFUSED": Explanation(
        "A mechanism that the isolation level needs is missing on this host, and no level is ever lowered by itself.",
        "`conductor doctor`",
    ),
    "SOCKET_PATH_TOO_LONG": Explanation(
        "The kernel takes 107 bytes for the path of a Unix socket, and the sockets are in CONDUCTOR_HOME/run.",
        "`echo -n CONDUCTOR_HOME/run/agents/AGENT/agent.sock | wc -c`",
    ),
    "ALREADY_RUNNING": Explanation(
        "A supervisor runs for this CONDUCTOR_HOME; there is one per home.",
        "`conductor status`; CONDUCTOR_HOME/run/supervisor.json has its pid",
    ),
    "NOT_RUNNING": Explanation(
        "No supervisor runs for this CONDUCTOR_HOME: it was never started, was stopped, or the machine was restarted.",
        "`echo $CONDUCTOR_HOME` (default: ~/.claude-conductor); `conductor logs --component supervisor` has the last words",
    ),
    "ADDRESS_IN_USE": Explanation(
        "Another program listens on the control plane's socket, or something else lies at its path.",
        "`ss -xlp | grep control.sock`",
    ),
    "HOME_UNUSABLE": Explanation(
        "A folder that Conductor writes to cannot be made or written, or belongs to somebody else.",
        "`ls -ld` on the path that the error names",
    ),
    "START_FAILED": Explanation(
        "A program of ours ended while it started, or took longer than --wait-timeout. What was started was stopped again.",
        "the last words in the error, and the log it names",
    ),
    "PROGRAM_MISSING": Explanation(
        "An agent's program, git or another tool is not installed, or not where the settings say.",
        "`command -v PROGRAM`; `conductor doctor`",
    ),
    "PROVIDER_UNAVAILABLE": Explanation(
        "The sidecar's gateway could not reach the model provider: no network, a proxy, or a wrong `provider.base_url`.",
        "`conductor config show --show-origin`; `conductor logs --component sidecar-AGENT`",
    ),
    "AGENT_HUNG_UP": Explanation(
        "The agent ended its call before the answer was complete, for example because it was stopped.",
        "`conductor logs TASK`",
    ),
    "WORKSPACE_UNUSABLE": Explanation(
        "The repository cannot be read by the sidecar, lacks the reference, or a patch does not fit.",
        "`git -C REPOSITORY rev-parse --verify REF`",
    ),
}
