"""In place of Claude Code: calls the model as its prompt says, and stops at an error."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # it is started as a program

from tests.fakes.model_agent import Gateway

Answer = tuple[int, str]


def call(model: str, max_tokens: int) -> Answer:
    gateway = Gateway("127.0.0.1", timeout=60)
    body = {"model": model, "max_tokens": max_tokens, "messages": [{"role": "user", "content": "go on"}]}
    gateway.request("POST", "/v1/messages", json.dumps(body), {"content-type": "application/json"})
    answer = gateway.getresponse()
    return answer.status, answer.read().decode()


def main() -> int:
    wanted = {
        "calls": 1,
        "at_once": 1,
        "max_tokens": 100,
        "model": "claude-stub",
        "linger": 0,
        "sleep": 0,
        **json.loads(sys.argv[-1]),
    }
    time.sleep(wanted["sleep"])
    answers: list[Answer] = []
    with ThreadPoolExecutor(wanted["at_once"]) as threads:
        while len(answers) < wanted["calls"] and all(status == 200 for status, _ in answers):
            asked = [threads.submit(call, wanted["model"], wanted["max_tokens"]) for _ in range(wanted["at_once"])]
            answers += [each.result() for each in asked]
    errors = [text for status, text in answers if status != 200]
    if errors:
        time.sleep(wanted["linger"])
    statuses = " ".join(str(status) for status, _ in answers)
    said = f"{statuses} {errors[0]}" if errors else statuses
    word = {"type": "result", "subtype": "success", "is_error": False, "result": said, "num_turns": len(answers)}
    sys.stdout.write(json.dumps(word) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
