"""Makes the calls it reads as lines of JSON and writes what came of each as a line of JSON; README.md beside has the form."""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2  # noqa: F401 - registers its messages
from grpc_reflection.v1alpha import reflection_pb2  # noqa: F401 - registers its messages

from claude_conductor.v1 import (  # noqa: F401 - registers their messages
    agent_service_pb2,
    local_service_pb2,
    message_service_pb2,
    schedule_service_pb2,
    session_service_pb2,
    task_service_pb2,
)

POOL = descriptor_pool.Default()


def failure(error: grpc.RpcError) -> dict[str, Any]:
    told: dict[str, Any] = {"code": error.code().name, "message": error.details()}
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    for detail in status_pb2.Status.FromString(details).details:
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            told |= {"reason": info.reason, "domain": info.domain, "metadata": dict(info.metadata)}
        if detail.Unpack(retry):
            told["retrySeconds"] = retry.retry_delay.ToMilliseconds() / 1000
    return told


def perform(step: dict[str, Any], channel: grpc.Channel) -> dict[str, Any]:
    service, name = step["method"].split("/")
    method = POOL.FindServiceByName(service).methods_by_name[name]
    request, response = (message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type))
    raw = "raw" in step or "raws" in step
    write = base64.b64decode if raw else lambda value: json_format.ParseDict(value, request()).SerializeToString()
    options = {
        "timeout": step.get("seconds", 10),
        "metadata": [("authorization", f"Bearer {step['token']}")] if step.get("token") else [],
    }
    if "until" in step:
        return stream(step, channel.stream_stream("/" + step["method"], write, response.FromString), options)
    call = channel.unary_unary("/" + step["method"], write, (lambda value: value) if raw else response.FromString)
    try:
        answer = call(step.get("raw", step.get("request", {})), **options)
    except grpc.RpcError as error:
        return {"error": failure(error)}
    return {"raw": base64.b64encode(answer).decode()} if raw else {"response": json_format.MessageToDict(answer)}


def stream(step: dict[str, Any], method: grpc.StreamStreamMultiCallable, options: dict[str, Any]) -> dict[str, Any]:
    responses: list[dict[str, Any]] = []
    ended = threading.Event()

    def requests() -> Iterator[object]:  # the other side takes an end of the requests for the end of the stream
        yield from step.get("raws") or step["requests"]
        ended.wait(options["timeout"])

    call = method(requests(), **options)
    try:
        for answer in call:
            responses.append(json_format.MessageToDict(answer))
            if step["until"] in responses[-1]:
                call.cancel()
                break
    except grpc.RpcError as error:
        return {"error": failure(error), "responses": responses}
    finally:
        ended.set()
    return {"responses": responses}


def main() -> None:
    channels: dict[str, grpc.Channel] = {}

    def answer(step: dict[str, Any]) -> None:
        try:
            outcome = perform(step, channels[step["target"]])
        except (json_format.Error, KeyError, ValueError) as fault:
            outcome = {"fault": repr(fault)}
        sys.stdout.write(json.dumps({"id": step["id"], **outcome}) + "\n")
        sys.stdout.flush()

    with ThreadPoolExecutor(16) as pool:
        for line in sys.stdin:
            step = json.loads(line)
            if step["target"] not in channels:
                channels[step["target"]] = grpc.insecure_channel(step["target"])
            pool.submit(answer, step)


if __name__ == "__main__":
    main()
