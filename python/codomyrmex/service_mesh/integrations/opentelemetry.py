"""Spans and metrics through OpenTelemetry.

    traced = TracedProxy(payments)
    traced.call(charge, 100)
    measure(payments, mail)

`TracedProxy` makes calls with a span for each, and one for each attempt within, in which your function runs: what it
sends carries the attempt's context. `measure` gives the meter what the other doors call `service_mesh_calls_total` and
so on; an exporter to Prometheus adds `_total` to the counters itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from opentelemetry import trace
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider

from ..models import ServiceInstance
from ..service_proxy import ServiceProxy, Story
from .measures import COUNTERS, Counter, Watched, Watcher

__all__ = ["TracedProxy", "measure"]

_SCOPE = "codomyrmex.service_mesh"


class TracedProxy:
    """Calls of a proxy, each in a span, and with one for each attempt.

    | span | attributes |
    |---|---|
    | `call SERVICE` | `service_mesh.service`, `service_mesh.attempts`, `service_mesh.outcome` |
    | `attempt INSTANCE`, of kind client | `server.address`, `server.port`, `service_mesh.instance`, and its outcome |
    """

    def __init__(self, proxy: ServiceProxy, tracer_provider: TracerProvider | None = None, **options: Any) -> None:
        """`options` are those of `ServiceProxy.with_options`."""
        self._proxy = proxy
        self._provider = tracer_provider
        self._options = options
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)

    @property
    def service_name(self) -> str:
        """The service's name."""
        return self._proxy.service_name

    @property
    def service_proxy(self) -> ServiceProxy:
        """The proxy itself."""
        return self._proxy

    def with_options(self, **options: Any) -> TracedProxy:
        """The same for calls that ask for more, as of `ServiceProxy`."""
        return TracedProxy(self._proxy, self._provider, **{**self._options, **options})

    def call(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Like `ServiceProxy.call`, for functions that are not coroutine functions."""
        with self._call() as (options, attempts):

            def traced(instance: ServiceInstance, *args: Any, **kwargs: Any) -> Any:
                with self._attempt(instance, attempts):
                    return func(instance, *args, **kwargs)

            return options.call(traced, *args, **kwargs)

    async def call_async(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Like `ServiceProxy.call_async`."""
        with self._call() as (options, attempts):

            async def traced(instance: ServiceInstance, *args: Any, **kwargs: Any) -> Any:
                with self._attempt(instance, attempts):
                    return await func(instance, *args, **kwargs)

            return await options.call_async(traced, *args, **kwargs)

    @contextmanager
    def _call(self) -> Iterator[tuple[Any, list[tuple[Span, int]]]]:
        """The options of a call, and a list for the spans of its attempts, which end when their verdicts are known."""
        options = self._proxy.with_options(**{**self._options, "explain": True})
        attempts: list[tuple[Span, int]] = []
        attributes = {"service_mesh.service": self.service_name}
        with self._tracer.start_as_current_span(f"call {self.service_name}", attributes=attributes) as span:
            try:
                yield options, attempts
            finally:
                _tell(span, attempts, options.story)

    @contextmanager
    def _attempt(self, instance: ServiceInstance, attempts: list[tuple[Span, int]]) -> Iterator[None]:
        attributes: dict[str, str | int] = {
            "service_mesh.instance": instance.id,
            "server.address": instance.host,
            "server.port": instance.port,
        }
        span = self._tracer.start_span(f"attempt {instance.id}", kind=SpanKind.CLIENT, attributes=attributes)
        try:
            with trace.use_span(span):
                yield
        finally:
            attempts.append((span, time.time_ns()))


def _tell(span: Span, attempts: list[tuple[Span, int]], story: Story | None) -> None:
    told = [each for each in story.attempts if each.instance is not None] if story is not None else []
    for number, (attempt, ended) in enumerate(attempts):
        outcome = told[number].outcome if number < len(told) else None
        attempt.set_attribute("service_mesh.outcome", outcome or "neutral")
        if outcome == "failure":
            attempt.set_status(Status(StatusCode.ERROR))
        attempt.end(ended)
    span.set_attribute("service_mesh.attempts", len(attempts))
    if story is not None:
        span.set_attribute("service_mesh.outcome", story.ending)


def measure(*watched: Watched, meter_provider: MeterProvider | None = None) -> None:
    """Gives the meter the counters and gauges of proxies, with all their circuits, and of circuits that stand alone.

    Durations are those of the spans.
    """
    watcher = Watcher(watched)
    meter = get_meter(_SCOPE, meter_provider=meter_provider)
    for counter in COUNTERS:
        meter.create_observable_counter(
            counter.name, callbacks=[partial(_counted, watcher, counter)], description=counter.help
        )
    for gauge in watcher.gauges():
        meter.create_observable_gauge(
            gauge.name, callbacks=[partial(_gauged, watcher, gauge.name)], description=gauge.help
        )


def _counted(watcher: Watcher, counter: Counter, _: CallbackOptions) -> Iterable[Observation]:
    for labels, count in watcher.sums()[counter.sums].items():
        yield Observation(count, dict(zip(counter.labels, labels, strict=True)))


def _gauged(watcher: Watcher, name: str, _: CallbackOptions) -> Iterable[Observation]:
    for gauge in watcher.gauges():
        if gauge.name == name:
            for sample in gauge.samples:
                yield Observation(sample.value, dict(zip(gauge.labels, sample.labels, strict=True)))
