"""An agent for tests: makes the calls it is given as JSON, [method, request] each, and prints each answer as a line of JSON."""

# ruff: noqa: T201 - standard output is what an agent has

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path

import grpc
from google.protobuf import json_format
from grpc_health.v1 import health_pb2, health_pb2_grpc

from claude_conductor.rpc.status import from_call
from claude_conductor.v1 import local_service_pb2, local_service_pb2_grpc


def call(stub: local_service_pb2_grpc.LocalServiceStub, method: str, request: dict[str, object]) -> object:
    kind = getattr(local_service_pb2, f"{method}Request")
    timeout = request.pop("timeout", 20)
    pad = request.pop("pad", 0)
    if "waits" in request:  # the request's own field of the name `timeout`
        request["timeout"] = request.pop("waits")
    message = json_format.ParseDict(request, kind())
    if pad:
        message.envelope.data = b"x" * pad
    try:
        return json_format.MessageToDict(getattr(stub, method)(message, timeout=timeout))
    except grpc.RpcError as error:
        return {"error": from_call(error).reason}


def serve(stub: local_service_pb2_grpc.LocalServiceStub) -> None:
    """Be a long-running agent: do what each task's prompt says, `crash` and `hang` included."""
    while True:
        task = call(stub, "NextTask", {"wait": "5s"})
        if "error" in task:
            if not Path(os.environ["CONDUCTOR_SOCKET"]).exists():
                return  # the sidecar is gone for good
            time.sleep(0.05)
            continue
        prompt = task["spec"].get("prompt", "")
        print(f"working on {task['taskId']} in {task['workspace']}", flush=True)
        if prompt == "crash":
            os._exit(9)
        if prompt == "hang":
            while True:
                call(stub, "Fetch", {"wait": "10s"})
        if prompt.startswith("silent "):  # until the file is there
            while not Path(prompt.removeprefix("silent ")).exists():
                time.sleep(0.02)
        if prompt == "ask":
            prompt = json.dumps(call(stub, "AskHuman", {"text": "well?"}))
        if prompt == "read":
            messages = call(stub, "Fetch", {"wait": "10s"})["messages"]
            prompt = json.dumps([[m["mailbox"], m["attempt"], m["envelope"]["id"]] for m in messages])
        if prompt.startswith("write "):
            with (Path(task["workspace"]) / "a.txt").open("a") as file:
                file.write(prompt + "\n")
        failure = {"failure": {"message": "no"}} if prompt == "fail" else {}
        print(
            json.dumps(call(stub, "CompleteTask", {"taskId": task["taskId"], "summary": f"did {prompt}", **failure})), flush=True
        )


def end_with_parent() -> None:
    """End when the sidecar does: the fake isolation has no kernel mechanism for it, and a killed sidecar ends nobody."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG (prctl(2))
    sandboxed = os.environ["CONDUCTOR_SOCKET"].startswith("/run/conductor/")  # where the parent always is process 1
    if os.getppid() == 1 and not sandboxed:
        os._exit(1)  # it ended before the call above


def main() -> None:
    end_with_parent()
    with grpc.insecure_channel(f"unix:{os.environ['CONDUCTOR_SOCKET']}") as channel:
        stub = local_service_pb2_grpc.LocalServiceStub(channel)
        if sys.argv[1:] == ["serve"]:
            serve(stub)
        for method, request in json.load(sys.stdin):
            if method == "Health":
                answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
                print(json.dumps({"status": answer.status}))
            else:
                print(json.dumps(call(stub, method, request)), flush=True)


if __name__ == "__main__":
    main()
