"""Every case of the table, in every language, and across every pair of languages where two agents are in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance.conftest import RunnerOf
from tests.conformance.fleet import AGENTS, Fleet
from tests.conformance.runner_process import LANGUAGES, Runner
from tests.conformance.table import Case, MismatchError, Names, cases

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900, func_only=True)]
PATIENCE = 10.0


def pairs(case: Case) -> list[tuple[str, str]]:
    """Return who plays the first and who the second agent, so that each language is each of them once."""
    if "second" not in case.roles:
        return [(language, language) for language in LANGUAGES]
    return list(zip(LANGUAGES, (*LANGUAGES[1:], LANGUAGES[0]), strict=True))


@pytest.mark.parametrize(
    ("case", "first", "second"),
    [pytest.param(case, *pair, id=f"{'-'.join(dict.fromkeys(pair))}: {case.name}") for case in cases() for pair in pairs(case)],
)
async def test_it_is_as_written(case: Case, first: str, second: str, fleet: Fleet, runner_of: RunnerOf):
    by_role = {"first": await runner_of(first), "second": await runner_of(second)}
    await empty(fleet, await runner_of("python"))
    await perform(case, fleet, lambda role: by_role.get(role, by_role["first"]))


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases()])
async def test_it_is_the_same_with_the_other_server(case: Case, grpcio_fleet: Fleet, runner_of: RunnerOf):
    """In one language: what differs between languages are clients, and grpcio's server is tried with those elsewhere."""
    runner = await runner_of("python")
    await empty(grpcio_fleet, runner)
    await perform(case, grpcio_fleet, lambda _: runner)


async def empty(fleet: Fleet, runner: Runner) -> None:
    """Acknowledge what an earlier case left, also what was fetched already and is not shown again."""
    operator = {**fleet.target("operator"), "method": "claude_conductor.v1.MessageService/ListMessages"}
    open_states = ["MESSAGE_STATE_ACCEPTED", "MESSAGE_STATE_AT_SIDECAR", "MESSAGE_STATE_SEEN"]
    mailboxes = {
        "operator": ("operator", "MessageService/FetchMessages", "MessageService/AcknowledgeMessages"),
        **{agent: (role, "LocalService/Fetch", "LocalService/Acknowledge") for role, agent in AGENTS.items()},
    }
    for mailbox, (role, fetch, acknowledge) in mailboxes.items():
        there = fleet.target(role)
        async with asyncio.timeout(PATIENCE):
            while True:
                await runner.call({**there, "method": f"claude_conductor.v1.{fetch}", "request": {}})
                listed = await runner.call({**operator, "request": {"recipient": mailbox, "states": open_states}})
                if not (records := listed["response"].get("records")):
                    break
                request = {"positions": [record["position"] for record in records]}
                await runner.call({**there, "method": f"claude_conductor.v1.{acknowledge}", "request": request})


async def perform(case: Case, fleet: Fleet, runner: Callable[[str], Runner]) -> None:
    """Make the steps of a case, one after the other; `later` ones go on beside the next."""
    names, later = Names(), dict[str, tuple[dict[str, Any], asyncio.Task[dict[str, Any]]]]()
    try:
        for number, step in enumerate(case.steps, 1):
            try:
                if "later" in step:
                    calling = runner(step["by"]).call(message(step, fleet, names))
                    later[step["later"]] = step, asyncio.create_task(calling, name=step["later"])
                elif "end of" in step:
                    begun, task = later.pop(step["end of"])
                    check(begun, await task, names)
                elif "freeze" in step:
                    await asyncio.gather(*(runner(role).freeze(step["seconds"]) for role in step["freeze"]))
                elif "do" in step:
                    await fleet.act(step["do"])
                else:
                    for _ in range(step.get("times", 1)):
                        await until_it_fits(step, runner(step["by"]), fleet, names)
            except MismatchError as mismatch:
                raise AssertionError(f"step {number}, {step.get('call', step)}: {mismatch}") from mismatch
        assert not later
    finally:
        for _, task in later.values():
            task.cancel()


def message(step: dict[str, Any], fleet: Fleet, names: Names) -> dict[str, Any]:
    """Return what a runner is told."""
    service = step["call"] if step["call"].startswith("grpc.") else f"claude_conductor.v1.{step['call']}"
    told = {**fleet.target(step["by"]), "method": service, "seconds": step.get("deadline", 20)}
    if "stream" in step:
        return {**told, "requests": names.fill(step["stream"]), "until": step["until"]}
    return {**told, "request": names.fill(step.get("with", {}))}


async def until_it_fits(step: dict[str, Any], runner: Runner, fleet: Fleet, names: Names) -> None:
    """Make a call and check its answer; with `eventually`, again until it fits."""
    deadline = time.monotonic() + (PATIENCE if step.get("eventually") else 0.0)
    while True:
        outcome = await runner.call(message(step, fleet, names))
        try:
            check(step, outcome, names)
        except MismatchError:
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            return


def check(step: dict[str, Any], outcome: dict[str, Any], names: Names) -> None:
    if "fails" in step:
        names.fit({"error": step["fails"]}, outcome)
        return
    if "error" in outcome:
        raise MismatchError(f"the call failed: {outcome['error']}")
    names.fit(step.get("gives", {}), outcome["responses"] if "stream" in step else outcome["response"])
