"""What is measured, for Prometheus by `prometheus_client`.

    REGISTRY.register(MeshCollector(payments, mail))

The names are those of every door to this toolkit: `service_mesh_calls_total`, `service_mesh_call_duration_seconds`,
`service_mesh_circuit_state` and so on. It is counted in Rust while calls are made; a scrape reads the sums and the
states. Of the states of a circuit exactly one is 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from .measures import BUCKETS, COUNTERS, DURATIONS, Watched, Watcher

__all__ = ["MeshCollector"]


class MeshCollector(Collector):
    """Tells a registry of proxies, with all their circuits, and of circuits that stand alone."""

    def __init__(self, *watched: Watched, buckets: Sequence[float] = BUCKETS) -> None:
        """`buckets` are the upper ends of those of a call's duration, in seconds."""
        self._watcher = Watcher(watched, buckets)

    def watch(self, watched: Watched) -> None:
        """Tells of one more, from now on."""
        self._watcher.watch(watched)

    def describe(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        """The names, for the registry, which refuses two of a name."""
        return self.collect()

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        """The sums and the states as they are now."""
        sums = self._watcher.sums()
        for counter in COUNTERS:
            family = CounterMetricFamily(counter.name, counter.help, labels=counter.labels)
            for labels, count in sums[counter.sums].items():
                family.add_metric(labels, count)
            yield family
        histogram = HistogramMetricFamily(DURATIONS.name, DURATIONS.help, labels=DURATIONS.labels)
        for labels, (buckets, count, seconds) in sums[DURATIONS.sums].items():
            ends = [(str(end), float(below)) for end, below in buckets]
            histogram.add_metric(labels, [*ends, ("+Inf", float(count))], seconds)
        yield histogram
        for gauge in self._watcher.gauges():
            gauges = GaugeMetricFamily(gauge.name, gauge.help, labels=gauge.labels)
            for sample in gauge.samples:
                gauges.add_metric(sample.labels, sample.value)
            yield gauges
