from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from codomyrmex.service_mesh import CircuitOpenError, ServiceInstance, ServiceProxy
from codomyrmex.service_mesh.integrations.httpx import MeshTransport
from codomyrmex.service_mesh.integrations.opentelemetry import TracedProxy, measure

from .backend import Backend, Reply


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traced(exporter: InMemorySpanExporter, payments: ServiceProxy) -> TracedProxy:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return TracedProxy(payments, provider)


def of_kind(exporter: InMemorySpanExporter, kind: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name.startswith(kind)]


def test_a_call_is_a_span_with_one_for_each_attempt(exporter: InMemorySpanExporter, traced: TracedProxy) -> None:
    def charge(instance: ServiceInstance) -> str:
        if instance.id == "a":
            raise ConnectionError("refused")
        return "paid"

    assert traced.call(charge) == "paid"
    (call,) = of_kind(exporter, "call payments")
    first, second = of_kind(exporter, "attempt")
    assert dict(call.attributes or {}) == {
        "service_mesh.service": "payments",
        "service_mesh.attempts": 2,
        "service_mesh.outcome": "success",
    }
    outcomes = [(span.name, (span.attributes or {})["service_mesh.outcome"]) for span in (first, second)]
    assert outcomes == [("attempt a", "failure"), ("attempt b", "success")]
    assert [span.status.is_ok for span in (first, second)] == [False, True]
    assert call.context is not None
    assert all(span.parent is not None and span.parent.span_id == call.context.span_id for span in (first, second))
    assert first.end_time is not None and second.start_time is not None and first.end_time <= second.start_time


def test_the_function_runs_in_the_span_of_its_attempt(exporter: InMemorySpanExporter, traced: TracedProxy) -> None:
    async def charge(instance: ServiceInstance) -> int:
        await asyncio.sleep(0)
        return trace.get_current_span().get_span_context().span_id

    span_id = asyncio.run(traced.call_async(charge))
    (attempt,) = of_kind(exporter, "attempt")
    assert attempt.context is not None and attempt.context.span_id == span_id


def test_a_refusal_is_the_error_of_its_call(
    exporter: InMemorySpanExporter, traced: TracedProxy, payments: ServiceProxy
) -> None:
    payments.circuit_breaker.force_open()
    with pytest.raises(CircuitOpenError):
        traced.call(lambda instance: "paid")
    (call,) = of_kind(exporter, "call")
    assert (call.attributes or {})["service_mesh.outcome"] == "circuit_open"
    assert not call.status.is_ok
    assert of_kind(exporter, "attempt") == []


def test_a_transport_takes_a_traced_proxy(
    exporter: InMemorySpanExporter, traced: TracedProxy, servers: list[Backend]
) -> None:
    servers[0].then(Reply(503))
    with httpx.Client(transport=MeshTransport(traced)) as client:
        assert client.get("http://payments.internal/").json()["by"] == "b"
    outcomes = [(span.attributes or {})["service_mesh.outcome"] for span in of_kind(exporter, "attempt")]
    assert outcomes == ["failure", "success"]


def test_the_meter_gets_the_sums_and_the_states(payments: ServiceProxy) -> None:
    reader = InMemoryMetricReader()
    measure(payments, meter_provider=MeterProvider([reader]))
    payments.call(lambda instance: "paid")
    data: Any = reader.get_metrics_data()
    (scope,) = data.resource_metrics[0].scope_metrics
    points = {metric.name: list(metric.data.data_points) for metric in scope.metrics}
    (calls,) = points["service_mesh_calls"]
    assert (calls.value, dict(calls.attributes)) == (
        1,
        {"service": "payments", "instance": "a", "outcome": "success"},
    )
    states = [point for point in points["service_mesh_circuit_state"] if point.attributes["circuit"] == "payments"]
    assert sorted((point.attributes["state"], point.value) for point in states) == [
        ("closed", 1),
        ("half_open", 0),
        ("open", 0),
    ]
