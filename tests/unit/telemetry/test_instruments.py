"""Counts are kept per label set, and nobody's names fill the memory."""

from claude_conductor.telemetry.exposition import Exposition
from claude_conductor.telemetry.instruments import OTHER, SERIES, Counter, Histogram, Metric

SENT = Metric("sent_total", "counter", "Sent.", ("to",))
TOOK = Metric("took_seconds", "histogram", "Took.", ("path",), (0.1, 1.0))


def test_label_sets_past_the_bound_count_as_one():
    counter = Counter(SENT)

    for number in range(SERIES + 50):
        counter.add(1, f"agent-{number}")
    counter.add(1, "agent-0")

    values = dict(counter.read())
    assert len(values) == SERIES + 1
    assert values[(OTHER,)] == 50
    assert values[("agent-0",)] == 2


def test_a_value_on_a_bound_is_within_it_and_one_below_zero_counts_as_zero():
    histogram = Histogram(TOOK)

    for value in (0.1, 0.11, 5.0, -3.0):
        histogram.observe(value, "live")

    [(labels, counts, total)] = histogram.read()
    assert (labels, counts) == (("live",), [2, 1, 1])
    assert round(total, 2) == 5.21


def test_the_text_has_cumulative_buckets_and_numbers_of_the_moment():
    took, sent = Histogram(TOOK), Counter(SENT)
    took.observe(0.05, "live")
    took.observe(0.5, "live")
    sent.add(2, 'a"b')
    gauge = Metric("open", "gauge", "Open.")
    readings = iter([3.0, 4.0])

    exposition = Exposition([took, sent], lambda: [(gauge, [((), next(readings))])])

    first, second = exposition.text().decode(), exposition.text().decode()
    assert 'took_seconds_bucket{le="0.1",path="live"} 1.0' in first
    assert 'took_seconds_bucket{le="+Inf",path="live"} 2.0' in first
    assert 'sent_total{to="a\\"b"} 2.0' in first
    assert "\nopen 3.0" in first
    assert "\nopen 4.0" in second
