"""Every metric there is: its name, its unit, its labels. `docs/metrics.md` is the same list, and a test compares them."""

from __future__ import annotations

from typing import Final

from claude_conductor.telemetry.instruments import Metric

_QUICK: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds that programs wait for."""
_LONG: Final = (0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)
"""Seconds that people wait for."""

BUILD: Final = Metric("conductor_build_info", "gauge", "1, with what runs.", ("version", "store"))

TASKS: Final = Metric(
    "conductor_tasks", "gauge", "Tasks that have not ended, by where they stand.", ("tenant", "state", "priority")
)
OLDEST: Final = Metric(
    "conductor_queue_oldest_age_seconds", "gauge", "How long the oldest queued task has been ready.", ("tenant", "priority")
)
QUEUED: Final = Metric(
    "conductor_task_dispatch_duration_seconds", "histogram", "From ready to handed to an agent.", ("priority",), _LONG
)
STARTED: Final = Metric(
    "conductor_task_start_duration_seconds", "histogram", "From handed to an agent to its process running.", (), _QUICK
)
TASK_TIME: Final = Metric(
    "conductor_task_duration_seconds", "histogram", "From submitted to ended, by how it ended.", ("state",), _LONG
)
ENDED: Final = Metric("conductor_tasks_ended_total", "counter", "Tasks that ended, by how.", ("tenant", "state"))
ATTEMPTS: Final = Metric(
    "conductor_attempts_ended_total",
    "counter",
    "Attempts that ended: succeeded, or by kind of failure, such as out_of_memory, timeout or isolation_refused.",
    ("outcome",),
)
LIMITS: Final = Metric("conductor_provider_limits_total", "counter", "How often a task had to wait for its model provider.")
TOKENS: Final = Metric("conductor_tokens_total", "counter", "Tokens that ended attempts used.", ("model", "kind"))
COST: Final = Metric("conductor_cost_usd_total", "counter", "US dollars that ended attempts cost, as far as known.", ("model",))

AGENTS: Final = Metric("conductor_agents", "gauge", "Agents by what they do; lost: not connected.", ("state",))
SESSIONS: Final = Metric("conductor_sessions", "gauge", "Sidecars that are connected.")
ISOLATION: Final = Metric("conductor_agents_isolated", "gauge", "Agents at work, by isolation level in force.", ("level",))
LOST: Final = Metric("conductor_agents_lost_total", "counter", "How often an agent was lost.")

MESSAGES: Final = Metric("conductor_messages_accepted_total", "counter", "Messages that were accepted.", ("quality",))
REFUSED: Final = Metric("conductor_messages_refused_total", "counter", "Messages that were refused, by reason.", ("reason",))
UNDELIVERED: Final = Metric(
    "conductor_messages_undelivered_total", "counter", "Messages nobody acknowledged: dead, bounced or expired.", ("state",)
)
RELAY: Final = Metric(
    "conductor_relay_duration_seconds",
    "histogram",
    "From a stored message accepted to given to its receiver's stream: live at once, or waiting for the receiver.",
    ("path",),
    _QUICK,
)

RPC: Final = Metric(
    "rpc_server_call_duration_seconds",
    "histogram",
    "Unary calls, named as OpenTelemetry does.",
    ("rpc_method", "rpc_response_status_code"),
    _QUICK,
)
STORE: Final = Metric("conductor_store_call_duration_seconds", "histogram", "Calls of the store.", ("store", "call"), _QUICK)
STORE_FAILED: Final = Metric("conductor_store_failures_total", "counter", "Calls the store could not answer.", ("store", "call"))
EVENTS_DROPPED: Final = Metric(
    "conductor_events_dropped_total", "counter", "Events that were lost because the log took none for too long."
)

ALL: Final = tuple(value for value in tuple(vars().values()) if isinstance(value, Metric))
