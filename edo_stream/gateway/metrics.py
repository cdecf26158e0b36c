"""Metrics of a gateway for Prometheus: plain counts here, families when Prometheus asks."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from edo_stream.gateway.backlog import Depth

_BOUNDS_S: Final = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

See = Callable[[], Mapping[str, float]]
"""Gauges and counters that are looked at when they are asked for, by name."""

SeeDepths = Callable[[], Mapping[str, Depth]]

_SEEN: Final = {
    "edo_gateway_connections": "Open connections",
    "edo_gateway_in_flight": "Requests whose headers have come and that are not answered",
    "edo_gateway_in_flight_bytes": "Bytes of bodies of these requests",
    "edo_gateway_remembered": "Events that are remembered as acknowledged",
    "edo_gateway_kafka_away": "1 while records are given up because Kafka does not answer",
    "edo_gateway_records_under_way": "Records that Kafka has not acknowledged yet",
}
_COUNTED: Final = {
    "edo_gateway_records": "Records that all in-sync replicas have acknowledged",
    "edo_gateway_records_given_up": "Records that were not acknowledged in time",
    "edo_gateway_rejected_unsampled": "Refusals that were counted and not written to the topic",
}


class Metrics(Collector):
    """Counts of one gateway."""

    def __init__(self, see: See, see_depths: SeeDepths) -> None:
        self._see = see
        self._see_depths = see_depths
        self._answers: Counter[tuple[str, int, str]] = Counter()
        self._buckets = [0] * (len(_BOUNDS_S) + 1)
        self._sum_s = 0.0
        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        self._registry = registry

    def count(self, source: str, status: int, cause: str) -> None:
        """Count an answer; ``cause`` is of a closed set."""
        self._answers[source, status, cause] += 1

    def accepted(self, duration_s: float) -> None:
        """Take the time from a request's first byte to Kafka's acknowledgement."""
        self._buckets[bisect_left(_BOUNDS_S, duration_s)] += 1
        self._sum_s += duration_s

    def page(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Metrics as they are now."""
        answers = CounterMetricFamily(
            "edo_gateway_requests",
            "Requests answered, by source, status, and cause where one was refused",
            labels=["source", "status", "cause"],
        )
        for (source, status, cause), count in sorted(self._answers.items()):
            answers.add_metric([source, str(status), cause], count)
        yield answers
        total, buckets = 0, []
        for bound, count in zip([*map(str, _BOUNDS_S), "+Inf"], self._buckets, strict=True):
            total += count
            buckets.append((bound, total))
        times = HistogramMetricFamily(
            "edo_gateway_accepted_seconds",
            "From a request's first byte to the acknowledgement of its records",
        )
        times.add_metric([], buckets, self._sum_s)
        yield times
        lag = GaugeMetricFamily(
            "edo_gateway_backlog_records",
            "Offsets that workers have not worked off of a source's topics, where it has a bound",
            labels=["source"],
        )
        age = GaugeMetricFamily(
            "edo_gateway_backlog_seconds", "Age of the first of them", labels=["source"]
        )
        for source, depth in self._see_depths().items():
            lag.add_metric([source], depth.lag)
            age.add_metric([source], depth.age_ms / 1000)
        yield lag
        yield age
        seen = self._see()
        for name, text in _SEEN.items():
            yield GaugeMetricFamily(name, text, value=seen[name])
        for name, text in _COUNTED.items():
            yield CounterMetricFamily(name, text, value=seen[name])
