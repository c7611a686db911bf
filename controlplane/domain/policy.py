"""Who may write to whom, and which rule says so?"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final


class Effect(enum.Enum):
    """What a rule does with a message it fits."""

    ALLOW = "allow"
    DENY = "deny"


class Kind(enum.Enum):
    """What sort of sender or receiver it is."""

    AGENT = "agent"
    """A long-running agent, by its id."""
    TASK = "task"
    """Whoever works on a task."""
    OPERATOR = "operator"


class Relation(enum.Enum):
    """What the sender is to the receiver."""

    ITSELF = "itself"
    PARENT = "parent"
    """The task the receiver is a subtask of, or the agent that submitted it."""
    CHILD = "child"
    """The other way round."""
    SIBLING = "sibling"
    """Both are subtasks of the same task, or neither is a subtask."""
    STRANGER = "stranger"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a sender or a receiver. None of it comes from the message."""

    kind: Kind
    id: str
    """Agent id, task id, or `operator`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of an agent those of its settings; of a task its own, and over them those of the agent that has it."""
    parent_task_id: str = ""
    submitting_agent: str = ""
    """Agent id; empty for what is no task or was submitted by the operator."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Which senders or receivers are meant; what is empty fits all. A text that ends in `*` fits what begins like it."""

    kind: Kind | None = None
    id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def fits(self, party: Facts) -> bool:
        """Return whether this one is meant."""
        return (
            (self.kind is None or self.kind is party.kind)
            and (not self.id or _fits(self.id, party.id))
            and all(name in party.labels and _fits(value, party.labels[name]) for name, value in self.labels.items())
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """One sentence of a policy. It fits a message if everything that it names fits."""

    name: str
    effect: Effect
    sender: Pattern = Pattern()
    receiver: Pattern = Pattern()
    relations: tuple[Relation, ...] = ()
    """Any of these; empty: all."""
    types: tuple[str, ...] = ()
    """Types of messages, any of these; empty: all."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules in order: the first one that fits decides, then those of `DEFAULT`, then `otherwise`."""

    rules: tuple[Rule, ...] = ()
    otherwise: Effect = Effect.ALLOW

    @property
    def reads_labels(self) -> bool:
        """Whether a decision may change with labels."""
        return any(rule.sender.labels or rule.receiver.labels for rule in self.rules)

    @property
    def reads_types(self) -> bool:
        """Whether a decision may change with the type of the message."""
        return any(rule.types for rule in self.rules)


DEFAULT: Final = (
    Rule(
        "tasks write within their family",
        Effect.DENY,
        Pattern(Kind.TASK),
        Pattern(Kind.TASK),
        relations=(Relation.STRANGER,),
    ),
)
"""Rules that hold behind those of the settings."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a message may go, and why."""

    allowed: bool
    reason: str
    """Such as: denied by rule no. 2 'workers do not write to each other'."""


def decide(policy: Policy, sender: Facts, receiver: Facts, type: str | None) -> Decision:  # noqa: A002 - the domain's word
    """Return whether a message may go.

    Args:
        policy: The rules.
        sender: Who sends it.
        receiver: Whose mailbox it is for.
        type: Type of the message; None asks whether a message of any type may.
    """
    relation = relation_of(sender, receiver)
    for rule, called in _numbered(policy):
        if rule.relations and relation not in rule.relations:
            continue
        if not (rule.sender.fits(sender) and rule.receiver.fits(receiver)):
            continue
        if type is None and rule.types and rule.effect is Effect.DENY:
            continue  # other types get past it
        if type is None or not rule.types or any(_fits(pattern, type) for pattern in rule.types):
            return Decision(rule.effect is Effect.ALLOW, f"{_did(rule.effect)} by {called}")
    return Decision(policy.otherwise is Effect.ALLOW, f"{_did(policy.otherwise)} because no rule fits")


def relation_of(sender: Facts, receiver: Facts) -> Relation:
    """Return what the sender is to the receiver."""
    if (sender.kind, sender.id) == (receiver.kind, receiver.id):
        return Relation.ITSELF
    if _is_parent(sender, receiver):
        return Relation.PARENT
    if _is_parent(receiver, sender):
        return Relation.CHILD
    both_tasks = sender.kind is receiver.kind is Kind.TASK
    return Relation.SIBLING if both_tasks and sender.parent_task_id == receiver.parent_task_id else Relation.STRANGER


def _is_parent(one: Facts, other: Facts) -> bool:
    if one.kind is Kind.TASK:
        return other.parent_task_id == one.id
    return one.kind is Kind.AGENT and other.submitting_agent == one.id


def _numbered(policy: Policy) -> Iterator[tuple[Rule, str]]:
    for number, rule in enumerate(policy.rules, 1):
        yield rule, f"rule no. {number} '{rule.name}'" if rule.name else f"rule no. {number}"
    for rule in DEFAULT:
        yield rule, f"the default rule '{rule.name}'"


def _did(effect: Effect) -> str:
    return "allowed" if effect is Effect.ALLOW else "denied"


def _fits(pattern: str, text: str) -> bool:
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern
