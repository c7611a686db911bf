import json

from claude_conductor.supervisor.channel import Channel


def read_lines(channel: Channel):
    channel.theirs.settimeout(0.0)
    received = b""
    while True:
        try:
            received += channel.theirs.recv(65536)
        except BlockingIOError:
            before = len(received)
            channel.flush()
            try:
                received += channel.theirs.recv(65536)
            except BlockingIOError:
                if len(received) == before:
                    return [json.loads(line) for line in received.splitlines()]


def test_an_event_is_one_line():
    channel = Channel()

    channel.put({"event": "sidecar_exited", "agent_id": "a"})

    assert read_lines(channel) == [{"event": "sidecar_exited", "agent_id": "a"}]
    channel.close()


def test_a_reader_that_sleeps_costs_the_oldest_whole_lines_only():
    channel = Channel(limit=4096)

    for number in range(5000):
        channel.put({"number": number})
        assert channel.waiting_bytes <= 4096 + 100
    numbers = [line["number"] for line in read_lines(channel)]

    assert channel.dropped > 0
    assert len(numbers) == 5000 - channel.dropped
    assert numbers == sorted(numbers)
    assert numbers[-1] == 4999
    channel.close()


def test_a_closed_reader_breaks_the_channel_and_nothing_else():
    channel = Channel()
    channel.theirs.close()

    channel.put({"event": "sidecar_started"})

    assert channel.broken
    channel.close()
