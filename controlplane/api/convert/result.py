"""How do results of attempts travel?"""

from __future__ import annotations

from typing import Final

from claude_conductor.errors import InvalidArgumentError
from claude_conductor.ids import ArtefactId
from claude_conductor.v1 import task_pb2 as pb
from controlplane.api.convert import isolation
from controlplane.api.convert.values import LONGEST_SECONDS, duration, span_of
from controlplane.domain.task import Artefact, Failure, FailureKind, ModelUsage, Result, Usage

KINDS: Final = {kind: pb.FailureKind.Value(f"FAILURE_KIND_{kind.name}") for kind in FailureKind}
_KINDS_BACK: Final[dict[int, FailureKind]] = {number: kind for kind, number in KINDS.items()}
_SUMMARY = 64 << 10
_MESSAGE = 4 << 10
_PATH = 4 << 10
_MODELS = 32
_MODEL = 128


def failure_to_proto(failure: Failure | None) -> pb.TaskFailure | None:
    """Return why an attempt failed; None stays unset."""
    if failure is None:
        return None
    return pb.TaskFailure(kind=KINDS[failure.kind], message=failure.message, retryable=failure.retryable)


def _failure_from_proto(failure: pb.TaskFailure) -> Failure:
    if failure.kind not in _KINDS_BACK:
        raise InvalidArgumentError("A failure has a kind.", field="completed.failure.kind", value=failure.kind)
    return Failure(_KINDS_BACK[failure.kind], failure.message[:_MESSAGE])


def result_from_proto(result: pb.TaskResult) -> Result:
    """Return what an attempt handed back.

    Raises:
        InvalidArgumentError: Its failure has no kind.
    """
    return Result(
        exit_code=result.exit_code if result.HasField("exit_code") else None,
        summary=result.summary[:_SUMMARY],
        failure=_failure_from_proto(result.failure) if result.HasField("failure") else None,
        usage=usage_from_proto(result.usage),
        artefacts=tuple(artefact_from_proto(artefact) for artefact in result.artefacts),
        patch_artefact_id=result.patch_artefact_id,
        base_commit=result.base_commit,
        patch_files=result.patch.files,
        patch_added=result.patch.added_lines,
        patch_removed=result.patch.removed_lines,
        isolation=isolation.status_from_proto(result.isolation),
        warnings=tuple(result.warnings),
        workspace=result.workspace[:_PATH],
        rate_limited=span_of(result.rate_limited, "completed.rate_limited") if result.HasField("rate_limited") else None,
    )


def result_to_proto(result: Result) -> pb.TaskResult:
    """Return the result as clients see it."""
    return pb.TaskResult(
        exit_code=result.exit_code,
        summary=result.summary,
        failure=failure_to_proto(result.failure),
        usage=usage_to_proto(result.usage),
        artefacts=[artefact_to_proto(artefact) for artefact in result.artefacts],
        patch_artefact_id=result.patch_artefact_id,
        base_commit=result.base_commit,
        patch=pb.PatchSummary(files=result.patch_files, added_lines=result.patch_added, removed_lines=result.patch_removed),
        isolation=isolation.status_to_proto(result.isolation),
        warnings=result.warnings,
        workspace=result.workspace,
        rate_limited=duration(result.rate_limited) if result.rate_limited is not None else None,
    )


def usage_from_proto(usage: pb.TaskUsage) -> Usage:
    """Return what an attempt used."""
    return Usage(
        wall_seconds=min(max(0.0, usage.wall_time.seconds + usage.wall_time.nanos / 1e9), LONGEST_SECONDS),
        cpu_seconds=usage.cpu_seconds,
        memory_peak_bytes=usage.memory_peak_bytes,
        throttled_seconds=usage.throttled_seconds,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        turns=usage.turns,
        cost_usd=usage.cost_usd,
        models=tuple(_model_from_proto(model) for model in usage.models[:_MODELS]),
        unpriced_tokens=usage.unpriced_tokens,
    )


def _model_from_proto(model: pb.ModelUsage) -> ModelUsage:
    return ModelUsage(
        model=model.model[:_MODEL],
        input_tokens=model.input_tokens,
        output_tokens=model.output_tokens,
        cache_read_tokens=model.cache_read_tokens,
        cache_write_tokens=model.cache_write_tokens,
        turns=model.turns,
        cost_usd=model.cost_usd,
        unpriced_tokens=model.unpriced_tokens,
    )


def usage_to_proto(usage: Usage) -> pb.TaskUsage:
    """Return what an attempt, or a task, used."""
    return pb.TaskUsage(
        wall_time=duration(usage.wall_seconds),
        cpu_seconds=usage.cpu_seconds,
        memory_peak_bytes=usage.memory_peak_bytes,
        throttled_seconds=usage.throttled_seconds,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        turns=usage.turns,
        cost_usd=usage.cost_usd,
        models=[_model_to_proto(model) for model in usage.models],
        unpriced_tokens=usage.unpriced_tokens,
    )


def _model_to_proto(model: ModelUsage) -> pb.ModelUsage:
    return pb.ModelUsage(
        model=model.model,
        input_tokens=model.input_tokens,
        output_tokens=model.output_tokens,
        cache_read_tokens=model.cache_read_tokens,
        cache_write_tokens=model.cache_write_tokens,
        turns=model.turns,
        cost_usd=model.cost_usd,
        unpriced_tokens=model.unpriced_tokens,
    )


def artefact_from_proto(artefact: pb.Artefact) -> Artefact:
    """Return a reference to a stored file."""
    return Artefact(
        ArtefactId(artefact.artefact_id), artefact.name, artefact.size_bytes, artefact.sha256.hex(), artefact.content_type
    )


def artefact_to_proto(artefact: Artefact) -> pb.Artefact:
    """Return a reference to a stored file."""
    return pb.Artefact(
        artefact_id=artefact.artefact_id,
        name=artefact.name,
        size_bytes=artefact.size_bytes,
        sha256=bytes.fromhex(artefact.sha256),
        content_type=artefact.content_type,
    )
