"""Which keys of older settings files no longer act, and what took their place?"""

from __future__ import annotations

from typing import Final

SUCCESSORS: Final = {
    "orchestrator.num_agents": "num_agents",
    "orchestrator.max_workers": "num_agents (one task at a time per agent)",
    "orchestrator.task_timeout": "tasks.timeout",
    "orchestrator.log_level": "log_level",
    "max_workers": "num_agents (one task at a time per agent)",
    "task_timeout": "tasks.timeout",
    "queue": "store",
    "agent_config.startup_delay": "agent.startup_timeout",
    "agent_config.health_check_interval": "agent.health_check_interval",
    "agent_config.max_memory_usage": "agent.container_memory",
    "agent_config.max_cpu_usage": "agent.container_cpu",
    "agent_config.workspace_isolation": "agent.workspace_isolation",
    "container_config.runtime": "nothing: the isolation driver is found by `conductor doctor`",
    "container_config.image": "nothing: agents see the host's system read-only, and toolchains",
    "container_config.security_opts": "agent.workspace_isolation",
    "storage.logs_path": "CONDUCTOR_HOME (logs are in CONDUCTOR_HOME/logs)",
    "storage.config_path": "CONDUCTOR_HOME, or --config",
    "storage.max_log_size": "nothing: logs are rotated at 10 MiB",
    "storage.log_rotation_count": "nothing: three files of each log are kept",
    "communication.socket_path": "CONDUCTOR_HOME (the socket is CONDUCTOR_HOME/run/control.sock)",
    "communication.message_timeout": "limits.message_seconds",
    "communication.retry_count": "limits.message_attempts",
    "task_queue.max_size": "nothing: the queue is on disk (store)",
    "task_queue.priority_levels": "nothing: priorities are 1 to 10 (--priority)",
    "task_execution.default_priority": "--priority of a task (5 where it is not given)",
    "task_execution.max_retries": "tasks.max_attempts",
    "task_execution.retry_delay": "tasks.retry_delay",
    "task_execution.timeout_buffer": "tasks.timeout",
    "task_execution.parallel_execution": "num_agents",
    "task_execution.isolation": "agent.workspace_isolation and agent.keep_workspaces",
    "task_execution": "tasks",
    "security.enable_authentication": "nothing: every caller is authenticated",
    "security.api_key_required": "nothing: every caller has a token",
    "security": "nothing: authentication cannot be switched off; agent.workspace_isolation sets how agents are kept apart",
    "network": "nothing: the control plane listens on a Unix socket in CONDUCTOR_HOME",
    "features.redis_enabled": "store",
    "features": "nothing: what is there is on",
    "performance.thread_pool_size": "num_agents",
    "performance.queue_max_size": "limits.mailbox_messages",
    "performance": "limits",
    "development.mock_claude_code": "the `scripted` kind of agent (--agent scripted)",
    "development.enable_debug_logs": "log_level: debug",
    "development.auto_restart_agents": "nothing: the supervisor restarts what ends",
    "development": "the `scripted` kind of agent (--agent scripted)",
    "logging.loggers": "log_level",
    "logging": "log_level",
    "dashboard": "nothing: there is no dashboard in this version",
    "notifications": "`conductor events --follow`",
    "maintenance.log_retention_days": "tasks.keep_days",
    "maintenance.workspace_cleanup": "agent.keep_workspaces",
    "maintenance": "tasks.keep_days and agent.keep_workspaces",
    "monitoring": "`conductor status`, and OTEL_EXPORTER_OTLP_ENDPOINT for traces",
    "container_lifecycle": "agent.keep_workspaces",
    "isolated_workspace": "toolchains",
    "dev_environments": "toolchains",
    "example_tasks": "`conductor run`",
    "orchestrator": "the keys at the top level",
    "agent_config": "agent",
    "communication": "limits",
    "task_queue": "limits",
}
"""Dotted key -> its successor. A block's entry stands for every key in it that has no entry of its own."""


def successor(key: str) -> str | None:
    """Return what took the key's place; None if it never was one."""
    while key:
        if key in SUCCESSORS:
            return SUCCESSORS[key]
        key = key.rpartition(".")[0]
    return None
