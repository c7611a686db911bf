"""`conductor dashboard`: the fleet in a browser, and the HTTP/JSON API, until Ctrl-C."""

from __future__ import annotations

import os
import webbrowser
from typing import Annotated

import typer

from claude_conductor.cli import commands, session
from claude_conductor.cli.output import say
from claude_conductor.clock import SystemClock
from claude_conductor.errors import NotRunningError
from claude_conductor.rpc.channel import Tls
from claude_conductor.settings import place
from claude_conductor.settings.home import find
from claude_conductor.web.logins import Logins
from claude_conductor.web.serving import HOST, Server, listen

app = commands.app("Show the fleet in a browser, and serve the HTTP/JSON API, until Ctrl-C.")


@app.command()
def dashboard(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8080,
    browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Show the fleet in a browser, and serve the HTTP/JSON API, until Ctrl-C.

    The address it prints logs one browser in, once, as you; it is good for five minutes. Programs use
    http://127.0.0.1:PORT/api/ with `authorization: Bearer TOKEN`; /api/openapi.json describes it.
    """
    where = place.resolve(os.environ)
    home = find(os.environ)
    if where.local and not home.socket.is_socket():
        raise NotRunningError(home=home.path)
    logins = Logins(SystemClock())
    listener = listen(port)
    url = f"http://{HOST}:{listener.getsockname()[1]}"
    address = f"{url}/login?code={logins.code(where.token.reveal())}"

    def ready() -> None:
        say(f"dashboard: {address}\nAPI: {url}/api/openapi.json\nCtrl-C ends it")
        if browser:
            webbrowser.open(address)

    session.run(Server(where.address, logins, ready, Tls(where.trust)).serve([listener]))
