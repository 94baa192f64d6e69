"""Services from a policy file, and what a reload does to their objects."""

import errno
import gc
import os
import pickle
import weakref

import pytest

from codomyrmex.service_mesh.load_balancer import LoadBalancer
from codomyrmex.service_mesh.mesh import Mesh, Mistake, PolicyChanges, PolicyError
from codomyrmex.service_mesh.models import CircuitOpenError, CircuitState, LoadBalancerStrategy, ServiceInstance
from codomyrmex.service_mesh.service_proxy import ServiceProxy
from codomyrmex.service_mesh.testing import ManualClock

POLICY = """
[services.carts]

[services.payments]
strategy = "least_connections"
instances = [
    { id = "a", host = "10.0.0.1", port = 8080, weight = 2, metadata = { zone = "x" } },
    { id = "b", host = "10.0.0.2", port = 8080, healthy = false },
]
circuit_breaker.failure_threshold = 2
retry = { max_retries = 1, initial_delay_seconds = 0.5, jitter = "full" }
"""


def down(instance):
    raise ConnectionError(instance.id)


def test_a_file_gives_the_proxies_that_it_describes(tmp_path):
    path = tmp_path / "mesh.toml"
    path.write_text(POLICY)
    mesh = Mesh.from_file(path)
    payments = mesh["payments"]
    assert type(payments) is ServiceProxy and mesh["payments"] is payments
    assert payments.service_name == "payments" and payments.call(lambda instance: instance.address) == "10.0.0.1:8080"
    assert payments.load_balancer.strategy is LoadBalancerStrategy.LEAST_CONNECTIONS
    assert payments.circuit_breaker.config.failure_threshold == 2
    policy = payments.retry_policy
    assert (policy.max_retries, policy.initial_delay, policy.jitter) == (1, 0.5, "full")
    first, second = payments.load_balancer
    assert first == ServiceInstance("a", "10.0.0.1", 8080, weight=2, metadata={"zone": "x"})
    assert second.healthy is False and payments.load_balancer["a"] is first
    path.write_text("[services.orders]")
    assert str(mesh.reload()) == "orders: added; carts: removed; payments: removed"


def test_it_is_a_mapping_of_names():
    mesh = Mesh.from_str(POLICY)
    assert list(mesh) == mesh.keys() == ["carts", "payments"] and len(mesh) == 2
    assert mesh.values() == [mesh["carts"], mesh["payments"]]
    assert "carts" in mesh and "orders" not in mesh and 5 not in mesh
    with pytest.raises(KeyError, match="orders"):
        mesh["orders"]
    assert repr(mesh) == "Mesh(['carts', 'payments'])" and Mesh.from_str("")
    with pytest.raises(TypeError, match="Mesh.from_file"):
        Mesh()


def test_every_mistake_is_told_with_line_and_column(tmp_path):
    path = tmp_path / "mesh.toml"
    path.write_text(
        "[services.payments.retry]\nmax_retires = 5\n[services.payments.circuit_breaker]\nfailure_threshold = 0"
    )
    with pytest.raises(PolicyError) as raised:
        Mesh.from_file(path)
    error = raised.value
    assert isinstance(error, ValueError) and error.path == str(path)
    assert (error.line, error.column, len(error.mistakes)) == (2, 1, 2)
    first = error.mistakes[0]
    assert first.key == "services.payments.retry.max_retires" and "did you mean max_retries?" in first.message
    assert str(error).splitlines()[0] == f"{path}:{first}"
    assert pickle.loads(pickle.dumps(error)).mistakes == error.mistakes
    with pytest.raises(PolicyError) as raised:
        Mesh.from_str("[services")
    assert raised.value.mistakes[0].key == "" and raised.value.path is None
    assert str(Mistake(1, 2, "", "is no TOML")) == "1:2: is no TOML"


def test_a_file_that_cannot_be_read_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError) as raised:
        Mesh.from_file(tmp_path / "missing.toml")
    path = str(tmp_path / "missing.toml")
    assert (raised.value.errno, raised.value.filename) == (errno.ENOENT, path)
    assert str(raised.value) == f"[Errno {errno.ENOENT}] {os.strerror(errno.ENOENT)}: {path!r}"
    (tmp_path / "latin.toml").write_bytes(b"\xe4")
    with pytest.raises(OSError) as raised:
        Mesh.from_file(tmp_path / "latin.toml")
    assert str(raised.value) == f"stream did not contain valid UTF-8: {str(tmp_path / 'latin.toml')!r}"


def test_a_reload_changes_what_has_changed_and_keeps_the_objects():
    mesh = Mesh.from_str(POLICY)
    payments = mesh["payments"]
    a, b = payments.load_balancer
    breaker, policy = payments.circuit_breaker, payments.retry_policy
    with pytest.raises(ConnectionError):
        payments.call(down)
    text = POLICY.replace("weight = 2", "weight = 3").replace(", healthy = false", "")
    text = text.replace("failure_threshold = 2", "failure_threshold = 7").replace("max_retries = 1", "max_retries = 0")
    changes = mesh.reload(text)
    assert changes == PolicyChanges(changed={"payments": ("instances", "circuit_breaker", "retry")}) and changes
    assert mesh["payments"] is payments and list(payments.load_balancer) == [a, b]
    assert payments.load_balancer["a"] is a and (a.weight, b.healthy) == (3, True)
    assert payments.circuit_breaker is breaker and breaker.config.failure_threshold == 7
    assert payments.retry_policy is policy and policy.max_retries == 0
    a.connections = 9
    assert all(payments.load_balancer.get_instance() is b for _ in range(9))
    assert not mesh.reload(text) and str(mesh.reload(text)) == "nothing has changed"
    with pytest.raises(PolicyError):
        mesh.reload("[services.payments]\nstrategy = 'fastest'")
    assert len(mesh) == 2
    with pytest.raises(TypeError, match="reloaded with a text"):
        mesh.reload()


def test_one_that_is_gone_goes_on_as_it_was_and_comes_back_anew():
    mesh = Mesh.from_str(POLICY)
    payments = mesh["payments"]
    mesh.reload("")
    assert payments.call(lambda instance: instance.id) == "a" and "payments" not in mesh
    mesh.reload(POLICY)
    assert mesh["payments"] is not payments


def test_instances_may_be_registered_beside_those_of_the_file():
    payments = Mesh.from_str(POLICY)["payments"]
    one = ServiceInstance("c", "10.0.0.3", 8080)
    payments.load_balancer.register(one)
    payments.load_balancer.mark_healthy("a", False)
    assert payments.call(lambda instance: instance) is one
    assert isinstance(payments.load_balancer, LoadBalancer)


def test_listeners_and_clock_are_those_of_every_service():
    clock, heard = ManualClock(), []
    mesh = Mesh.from_str(POLICY, clock=clock, listeners=[heard.append], max_ejected_ratio=0.5)
    with pytest.raises((ConnectionError, CircuitOpenError)):
        mesh["payments"].call(down)
    assert len(clock.sleeps) == 1
    # One of one would be more than half.
    assert {(event.name, event.kind) for event in heard} >= {("payments/a", "ejection_capped"), ("payments", "retry")}
    assert mesh["payments"].circuit_breaker.state is CircuitState.OPEN


def test_cycles_through_a_mesh_are_collected():
    mesh = Mesh.from_str(POLICY, listeners=[lambda event: mesh])
    mesh.proxy = mesh["payments"]
    mesh.proxy.load_balancer["a"].metadata["mesh"] = mesh
    gone = weakref.ref(mesh)
    del mesh
    gc.collect()
    assert gone() is None
