"""What is a type of task, and what does it tell an agent?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from controlplane.domain.budget import Budget
from controlplane.domain.task import IsolationLevel

GENERIC: Final = "generic"
"""The type of a task that names none."""
NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
PROMPT: Final = "{prompt}"
_PLACES: Final = re.compile(r"\{prompt\}|\{files\}")
_NO_FILES: Final = "the whole workspace"


@dataclass(frozen=True, slots=True)
class TaskType:
    """A template around prompts, and defaults; 0 and None leave a default to the server. Times in seconds."""

    name: str
    template: str = PROMPT
    about: str = ""
    priority: int = 0
    timeout: float = 0.0
    max_attempts: int = 0
    isolation_level: IsolationLevel | None = None
    file: str = ""
    """Where it was read; empty for a built-in one."""
    problem: str = ""
    """Why its file cannot be used; empty where it can."""
    budget: Budget = Budget()


def canonical(name: str) -> str:
    """Return a type's name as it is stored: `Code-Review` is `code_review`, nothing is `generic`."""
    return name.strip().lower().replace("-", "_") or GENERIC


def instructions(kind: TaskType, prompt: str, files: Sequence[str]) -> str:
    """Return what the agent is told; empty where that is the prompt alone.

    What stands in the prompt or in a file's name is not filled in again.
    """
    template = kind.template.strip()
    if template == PROMPT:
        return ""
    values = {PROMPT: prompt.strip(), "{files}": "\n".join(f"- {path}" for path in files) or _NO_FILES}
    return _PLACES.sub(lambda place: values[place[0]], template) + "\n"
