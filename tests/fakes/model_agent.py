"""In place of Claude Code: asks the model once, and fails on any answer but a good one - it knows of no rate limits."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
from pathlib import Path


class Gateway(http.client.HTTPConnection):
    """HTTP over the gateway's socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(Path(os.environ["CONDUCTOR_SOCKET"]).with_name("model.sock")))


def main() -> int:
    gateway = Gateway("127.0.0.1")
    gateway.request("POST", "/v1/messages", json.dumps({"messages": []}), {"content-type": "application/json"})
    answer = gateway.getresponse()
    answer.read()
    failed = answer.status != http.client.OK
    word = {"type": "result", "subtype": "success", "is_error": failed, "result": f"HTTP {answer.status}", "num_turns": 1}
    sys.stdout.write(json.dumps(word) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
