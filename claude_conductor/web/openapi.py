"""What does the API say of itself? An OpenAPI 3.1 document, made from the descriptors and their comments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from claude_conductor import __version__
from claude_conductor.web.methods import PACKAGE, Method

DESCRIPTORS: Final = "claude_conductor.v1.binpb"
_MESSAGE_TYPE, _ENUM_TYPE, _SERVICE, _FIELD, _METHOD = 4, 5, 6, 2, 2
"""Field numbers of FileDescriptorProto, DescriptorProto and ServiceDescriptorProto, which paths of comments are made of."""

_64_BITS: Final = {"type": ["string", "integer"], "pattern": "^-?[0-9]+$"}
_SCALARS: Final[Mapping[int, Mapping[str, Any]]] = {
    FieldDescriptor.TYPE_DOUBLE: {"type": "number"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number"},
    FieldDescriptor.TYPE_INT64: {**_64_BITS, "minimum": -(1 << 63), "maximum": (1 << 63) - 1},
    FieldDescriptor.TYPE_UINT64: {"type": ["string", "integer"], "pattern": "^[0-9]+$", "minimum": 0, "maximum": (1 << 64) - 1},
    FieldDescriptor.TYPE_FIXED64: {"type": ["string", "integer"], "pattern": "^[0-9]+$", "minimum": 0, "maximum": (1 << 64) - 1},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "minimum": -(1 << 31), "maximum": (1 << 31) - 1},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": (1 << 32) - 1},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64", "format": "byte"},
}
_WELL_KNOWN: Final[Mapping[str, Mapping[str, Any]]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
}
_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "status", "message", "details"],
            "properties": {
                "code": {"type": "integer", "description": "The HTTP status."},
                "status": {"type": "string", "description": "The gRPC status, such as NOT_FOUND."},
                "message": {"type": "string", "description": "One sentence for people."},
                "details": {
                    "type": "array",
                    "description": "google.rpc.ErrorInfo with `reason` and `metadata.next_step`; google.rpc.RetryInfo.",
                    "items": {"type": "object"},
                },
            },
        }
    },
}


def document(methods: Mapping[str, Method]) -> dict[str, Any]:
    """Return the document for these methods."""
    comments = _comments()
    schemas: dict[str, Any] = {"Error": _ERROR}
    paths = {f"/api/{PACKAGE}.{name}": _path(method, schemas, comments) for name, method in methods.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Claude Conductor",
            "version": __version__,
            "description": "The gRPC services as protobuf JSON over HTTP, with the names of the proto files. "
            "Streams are server-sent events; each event's id, sent back as Last-Event-ID, is where the stream goes on.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": dict(sorted(schemas.items())),
            "responses": {
                "Error": {"description": "It failed, and why.", "content": _json({"$ref": "#/components/schemas/Error"})}
            },
        },
    }


def _path(method: Method, schemas: dict[str, Any], comments: Mapping[str, str]) -> dict[str, Any]:
    text = comments.get(method.descriptor.full_name, "")
    answer = _reference(method.descriptor.output_type, schemas, comments)
    content = {"text/event-stream": {"schema": {"type": "string"}}} if method.streams else _json(answer)
    shared = {
        "tags": [method.descriptor.containing_service.name],
        "summary": text.split(". ")[0].rstrip("."),
        "description": text,
        "responses": {
            "200": {
                "description": "Events, each with one message as data." if method.streams else "The answer.",
                "content": content,
            },
            "default": {"$ref": "#/components/responses/Error"},
        },
    }
    request = _reference(method.descriptor.input_type, schemas, comments)
    found: dict[str, Any] = {
        "post": {
            "operationId": method.short.replace("/", "_"),
            **shared,
            "requestBody": {"required": True, "content": _json(request)},
        }
    }
    if method.streams:
        given = {"name": "request", "in": "query", "content": _json(request)}
        found["get"] = {"operationId": method.short.replace("/", "_") + "_get", **shared, "parameters": [given]}
    return found


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _reference(message: Descriptor, schemas: dict[str, Any], comments: Mapping[str, str]) -> dict[str, Any]:
    if message.full_name in _WELL_KNOWN:
        return dict(_WELL_KNOWN[message.full_name])
    name = message.full_name.removeprefix(f"{PACKAGE}.")
    if name not in schemas:
        schemas[name] = {}  # a message may hold itself
        properties = {
            field.name: _described(_field(field, schemas, comments), comments.get(field.full_name, ""))
            for field in message.fields
        }
        schemas[name] = {
            "type": "object",
            "description": comments.get(message.full_name, ""),
            "properties": properties,
            "additionalProperties": False,
        }
    return {"$ref": f"#/components/schemas/{name}"}


def _described(schema: Mapping[str, Any], text: str) -> dict[str, Any]:
    return {**schema, "description": text} if text else dict(schema)


def _field(field: FieldDescriptor, schemas: dict[str, Any], comments: Mapping[str, str]) -> dict[str, Any]:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        return {"type": "object", "additionalProperties": _one(message.fields_by_name["value"], schemas, comments)}
    one = _one(field, schemas, comments)
    return {"type": "array", "items": one} if field.is_repeated else one


def _one(field: FieldDescriptor, schemas: dict[str, Any], comments: Mapping[str, str]) -> dict[str, Any]:
    if field.message_type is not None:
        return _reference(field.message_type, schemas, comments)
    if field.enum_type is not None:
        return _enum(field.enum_type, schemas, comments)
    return dict(_SCALARS[field.type])


def _enum(enum: EnumDescriptor, schemas: dict[str, Any], comments: Mapping[str, str]) -> dict[str, Any]:
    name = enum.full_name.removeprefix(f"{PACKAGE}.")
    values = [value.name for value in enum.values]
    schemas[name] = {"type": "string", "enum": values, "description": comments.get(enum.full_name, "")}
    return {"$ref": f"#/components/schemas/{name}"}


def _comments() -> dict[str, str]:
    """Return what the proto files say of each message, field, enum and method, by its full name."""
    found = {}
    described = FileDescriptorSet.FromString(resources.files(PACKAGE).joinpath(DESCRIPTORS).read_bytes())
    for file in described.file:
        names: dict[tuple[int, ...], str] = {}
        for index, message in enumerate(file.message_type):
            _name((_MESSAGE_TYPE, index), f"{file.package}.{message.name}", message.field, _FIELD, names)
        for index, service in enumerate(file.service):
            _name((_SERVICE, index), f"{file.package}.{service.name}", service.method, _METHOD, names)
        for index, enum in enumerate(file.enum_type):
            names[_ENUM_TYPE, index] = f"{file.package}.{enum.name}"
        for location in file.source_code_info.location:
            name = names.get(tuple(location.path))
            if name and location.leading_comments:
                found[name] = " ".join(location.leading_comments.split())
    return found


def _name(path: tuple[int, int], name: str, parts: Iterable[Any], kind: int, names: dict[tuple[int, ...], str]) -> None:
    names[path] = name
    for index, part in enumerate(parts):
        names[*path, kind, index] = f"{name}.{part.name}"
