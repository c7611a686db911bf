"""`conductor grpcurl`: a grpcurl line that works, for a method of the control plane."""

from __future__ import annotations

import difflib
import os
import shlex
from importlib import resources
from typing import Annotated

import typer
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from claude_conductor.cli import commands, complaint
from claude_conductor.cli.output import say
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.settings import place
from claude_conductor.settings.home import find

app = commands.app("Print a working grpcurl line for a method.")

PACKAGE = "claude_conductor.v1"
DESCRIPTORS = "claude_conductor.v1.binpb"


def methods(incomplete: str = "") -> list[str]:
    """Return every method as Service/Method."""
    described = FileDescriptorSet.FromString(resources.files(PACKAGE).joinpath(DESCRIPTORS).read_bytes())
    found = [f"{service.name}/{method.name}" for file in described.file for service in file.service for method in service.method]
    return sorted(name for name in found if name.startswith(incomplete))


@app.command()
def grpcurl(
    method: Annotated[str, typer.Argument(autocompletion=methods, help="Such as TaskService/ListTasks.")],
    data: Annotated[str, typer.Option("-d", "--data", help="The request as JSON.")] = "{}",
) -> None:
    """Print a grpcurl line that works: address, token header and descriptor set filled in."""
    known = methods()
    wanted = method.removeprefix(f"{PACKAGE}.")
    if wanted not in known:
        near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.3)
        meant = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
        raise InvalidArgumentError("There is no such method.", next_step=meant, method=method)
    where = place.resolve(os.environ)
    if not where.token:
        complaint.warn("there is no operator token yet; `conductor start` makes one")
    token = find(os.environ).operator_token
    header = f'"authorization: Bearer $(cat {shlex.quote(str(token))})"'
    descriptors = resources.files(PACKAGE).joinpath(DESCRIPTORS)
    # `unix://` and not -unix: that flag is broken in grpcurl 1.9.2.
    address = where.address.replace("unix:/", "unix:///", 1) if where.address.startswith("unix:/") else where.address
    words = ["grpcurl", "-plaintext", "-authority", "localhost", "-protoset", shlex.quote(str(descriptors))]
    say(f"{' '.join(words)} -H {header} -d {shlex.quote(data)} {shlex.quote(address)} {PACKAGE}.{wanted}")
