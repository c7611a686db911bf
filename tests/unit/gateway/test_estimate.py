"""What a request may use at most, estimated from its body."""

from __future__ import annotations

import json

import pytest

from agent_sidecar.gateway.estimate import Need, need
from agent_sidecar.gateway.usage import UsageReader
from claude_conductor.errors import InvalidArgumentError


def body(*content: object, **more: object) -> bytes:
    asked = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": list(content)}], **more}
    return json.dumps(asked).encode()


def image(data: str) -> dict[str, object]:
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


def test_half_of_the_bytes_of_the_text_and_all_that_may_be_written() -> None:
    small, large = need(body({"type": "text", "text": "x"})), need(body({"type": "text", "text": "x" * 2001}))
    assert (small.model, small.output_tokens) == ("m", 100)
    assert large.input_tokens - small.input_tokens == 1000
    assert need(body({"type": "text", "text": "ü" * 1000})).input_tokens > 1000
    assert Need("m", 3, 4).tokens == 7


def test_tools_and_the_system_prompt_are_read_too() -> None:
    tools = [{"name": "t", "description": "d" * 500, "input_schema": {"type": "object", "properties": {"p" * 500: {}}}}]
    assert need(body(tools=tools, system="s" * 1000)).input_tokens >= need(body()).input_tokens + 1000


def test_an_image_is_as_large_as_images_get_and_not_as_its_bytes() -> None:
    assert need(body(image("A" * 2_000_000))).input_tokens == need(body(image("A"))).input_tokens
    assert 5000 <= need(body(image("A"))).input_tokens < 5200


def test_what_the_provider_fetches_may_be_as_large_as_a_model_reads() -> None:
    document = {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}}
    assert need(body(document)).input_tokens > 200_000


@pytest.mark.parametrize(
    "wrong", [b"", b"[]", b"{", b'{"model": "m"}', b'{"max_tokens": 5}', b'{"model": "m", "max_tokens": -1}']
)
def test_what_the_provider_would_refuse_is_refused(wrong: bytes) -> None:
    with pytest.raises(InvalidArgumentError):
        need(wrong)


def event(kind: str, **more: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()


START = event("message_start", message={"model": "m", "usage": {"input_tokens": 10, "output_tokens": 1}})


def written(*events: bytes) -> int:
    reader = UsageReader("text/event-stream")
    for each in events:
        reader.feed(each)
    used = reader.usage()
    assert used is not None
    assert used.input_tokens == 10
    return used.output_tokens


def test_of_an_answer_that_was_cut_off_what_passed_is_counted() -> None:
    piece = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "x" * 310})
    end = event("message_delta", delta={}, usage={"output_tokens": 77})
    assert written(START) == 1
    assert 190 <= written(START, piece, piece) <= 210
    assert written(START, piece, piece, end) == 77, "the total is the provider's own"
    small = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "x"})
    assert written(START, *[small] * 20) == 20
