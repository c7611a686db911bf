"""How do our numbers become what Prometheus reads? The only module that knows its client library."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from claude_conductor.telemetry.instruments import Counter, Histogram, Labels, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Reading = tuple[Metric, Iterable[tuple[Labels, float]]]
"""Numbers as they are at one moment."""


class Exposition:
    """What a scrape is answered with: our instruments, numbers taken at that moment, and the process itself."""

    def __init__(self, instruments: Iterable[Counter | Histogram], readings: Callable[[], Iterable[Reading]]) -> None:
        """Put it together.

        Args:
            instruments: What is counted all the time.
            readings: Called at each scrape, in the caller's thread.
        """
        self._instruments = tuple(instruments)
        self._readings = readings
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Return everything in the text format 0.0.4."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Family]:
        """Return our families; what prometheus_client asks a collector."""
        for instrument in self._instruments:
            yield _histogram(instrument) if isinstance(instrument, Histogram) else _numbers(instrument.metric, instrument.read())
        for metric, values in self._readings():
            yield _numbers(metric, values)


def _numbers(metric: Metric, values: Iterable[tuple[Labels, float]]) -> Family:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    found = list(values)
    for labels, value in found or ([] if metric.labels else [((), 0.0)]):
        family.add_metric(labels, value)
    return family


def _histogram(instrument: Histogram) -> Family:
    metric = instrument.metric
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    bounds = [*(repr(bound) for bound in metric.buckets), "+Inf"]
    for labels, counts, total in instrument.read():
        family.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
    return family
