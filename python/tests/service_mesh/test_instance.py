"""What a `ServiceInstance` is to Python, and what balancers see of it."""

import copy
import dataclasses
import gc
import pickle
import weakref
from dataclasses import dataclass
from fractions import Fraction

import pytest

from codomyrmex.service_mesh.load_balancer import LoadBalancer
from codomyrmex.service_mesh.models import ConfigError, LoadBalancerStrategy, ServiceInstance


def instance(name="a", **fields):
    return ServiceInstance(id=name, host=f"host-{name}", port=80, **fields)


def test_it_is_the_dataclass_of_seven_fields():
    names = ["id", "host", "port", "weight", "healthy", "connections", "metadata"]
    assert [field.name for field in dataclasses.fields(ServiceInstance)] == names
    assert ServiceInstance.__match_args__ == tuple(names)
    one = ServiceInstance("1", "api-1", 8080)
    assert (one.weight, one.healthy, one.connections, one.metadata) == (1, True, 0, {})
    assert repr(one) == (
        "ServiceInstance(id='1', host='api-1', port=8080, weight=1, healthy=True, connections=0, metadata={})"
    )
    assert one == ServiceInstance("1", "api-1", 8080) != ServiceInstance("1", "api-1", 8080, weight=2)
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)
    assert dataclasses.asdict(one)["weight"] == 1
    assert dataclasses.astuple(one) == ("1", "api-1", 8080, 1, True, 0, {})
    heavy = dataclasses.replace(one, weight=5, healthy=False)
    assert (heavy.weight, heavy.healthy, heavy.id, one.weight) == (5, False, "1", 1)
    match one:
        case ServiceInstance(id="1", weight=weight):
            assert weight == 1
        case _:
            pytest.fail("it does not match")


def test_defaults_are_still_told_by_the_fields():
    defaults = {field.name: field.default for field in dataclasses.fields(ServiceInstance)}
    assert (defaults["weight"], defaults["healthy"], defaults["connections"]) == (1, True, 0)


def test_an_ipv6_host_stands_in_brackets():
    assert ServiceInstance("1", "::1", 80).address == "[::1]:80"
    assert ServiceInstance("1", "api-1", 80).address == "api-1:80"


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_and_pickles_are_equal_and_registered_nowhere(twin):
    one = instance(weight=2.5, healthy=False, connections=3, metadata={"zone": ["a"]})
    one.extra = "kept"
    balancer = LoadBalancer(instances=[one])
    other = twin(one)
    assert other == one and other is not one and other.extra == "kept"
    other.healthy = True
    assert balancer.get_instance() is None


def test_setters_are_as_lenient_as_python():
    one = instance()
    one.healthy = []
    assert one.healthy is False
    one.healthy = "yes"
    assert one.healthy is True
    one.weight = 1.5
    assert one.weight == 1.5
    one.weight = 2.0
    assert (one.weight, type(one.weight)) == (2.0, float)
    one.weight = Fraction(1, 4)
    assert one.weight == 0.25
    one.connections -= 1
    assert one.connections == -1
    for wrong in (-1, -0.5, float("nan"), float("inf"), 2**32):
        with pytest.raises(ConfigError, match="weight"):
            one.weight = wrong
    assert one.weight == 0.25
    with pytest.raises(TypeError, match="weight must be a number, not str"):
        one.weight = "heavy"
    with pytest.raises(TypeError, match="connections must be an int, not str"):
        one.connections = "many"


def test_an_assignment_is_seen_by_every_balancer_at_once():
    one, other = instance("a"), instance("b")
    balancers = [LoadBalancer(instances=[one, other]) for _ in range(2)]
    one.healthy = False
    for balancer in balancers:
        assert [balancer.get_instance() for _ in range(3)] == [other] * 3
    other.weight = 0
    for balancer in balancers:
        assert balancer.get_instance() is None
    one.healthy = True
    for balancer in balancers:
        assert balancer.get_instance() is one


def test_connections_are_seen_by_least_connections_at_once():
    one, other = instance("a"), instance("b")
    balancer = LoadBalancer(LoadBalancerStrategy.LEAST_CONNECTIONS, [one, other])
    one.connections += 1
    assert {balancer.get_instance().id for _ in range(20)} == {"b"}
    other.connections += 2
    assert {balancer.get_instance().id for _ in range(20)} == {"a"}
    one.connections = -5
    assert {balancer.get_instance().id for _ in range(20)} == {"a"}


def test_fractions_of_weight_keep_their_proportion():
    light, heavy = instance("a", weight=0.3), instance("b", weight=0.7)
    whole = instance("c", weight=2)
    balancer = LoadBalancer("weighted", [whole, light, heavy])
    picked = [balancer.get_instance().id for _ in range(30)]
    assert [picked.count(name) for name in "abc"] == [3, 7, 20]
    light.weight = 0.00001
    assert "a" not in {balancer.get_instance().id for _ in range(9)}
    light.weight = 0.0
    heavy.weight = 2
    assert sorted(balancer.get_instance().id for _ in range(4)) == ["b", "b", "c", "c"]


def test_one_that_was_replaced_or_taken_out_is_told_no_more():
    first, second = instance("a"), instance("a")
    balancer = LoadBalancer(instances=[first])
    assert balancer.register(second) is first
    first.healthy = False
    assert balancer.get_instance() is second
    assert balancer.deregister("a") is second
    balancer.register(first)
    second.healthy = True
    assert balancer.get_instance() is None
    first.healthy = True
    assert balancer.get_instance() is first


@dataclass
class Zoned(ServiceInstance):
    zone: str = "a"


@dataclass
class Shadowing(ServiceInstance):
    healthy: bool = False


class Measured(ServiceInstance):
    load = 0

    @property
    def connections(self):
        return self.load

    @connections.setter
    def connections(self, value):
        pass


class Duck:
    def __init__(self, name):
        self.id = name


def test_a_subclass_with_more_fields_is_as_fast_and_as_alive():
    one = Zoned("a", "api-1", 80, zone="b")
    assert one.zone == "b" and repr(one).endswith("metadata={}, zone='b')") and copy.copy(one) == one
    balancer = LoadBalancer(instances=[one])
    one.healthy = False
    assert balancer.get_instance() is None


def test_a_subclass_that_hides_a_field_is_read_by_attribute():
    one = Shadowing("a", "api-1", 80)
    balancer = LoadBalancer(instances=[one])
    assert one.healthy is False and balancer.get_instance() is None
    one.healthy = True
    assert balancer.get_instance() is one
    assert pickle.loads(pickle.dumps(one)) == one
    measured = [Measured("b", "api-2", 80), Measured("c", "api-3", 80)]
    balancer = LoadBalancer("least_connections", measured)
    measured[0].load = 3
    assert {balancer.get_instance().id for _ in range(20)} == {"c"}
    measured[1].load = 4
    assert {balancer.get_instance().id for _ in range(20)} == {"b"}


def test_any_object_with_an_id_may_be_registered_and_is_read_before_each_pick():
    ducks = [Duck("a"), Duck("b")]
    balancer = LoadBalancer(instances=ducks)
    assert balancer.get_instance() is ducks[0]
    ducks[1].healthy = False
    assert balancer.get_instance() is ducks[0]
    ducks[0].weight, ducks[1].healthy = 0, 1
    assert balancer.get_instance() is ducks[1]
    assert balancer.mark_healthy("b", False) and ducks[1].healthy is False
    assert balancer.get_instance() is None
    with pytest.raises(AttributeError, match="id"):
        balancer.register(object())


def test_in_flight_tells_what_balancers_have_leased():
    one = instance()
    balancers = [LoadBalancer(instances=[one]) for _ in range(2)]
    assert one.in_flight == 0
    with balancers[0].lease(), balancers[1].lease():
        assert (one.in_flight, one.connections) == (2, 0)
    assert one.in_flight == 0


def test_an_instance_keeps_no_balancer_alive_and_cycles_are_collected():
    one = instance()
    balancer = LoadBalancer(instances=[one])
    gone = weakref.ref(balancer)
    del balancer
    gc.collect()
    assert gone() is None
    one.healthy = False

    balancer = LoadBalancer(instances=[one])
    one.metadata["balancer"] = balancer
    gone = weakref.ref(one)
    del balancer, one
    gc.collect()
    assert gone() is None


class Dying(ServiceInstance):
    def __del__(self):
        Dying.left = len(self.metadata["balancer"])


def test_one_that_asks_its_balancer_while_it_dies_does_not_hang():
    balancer = LoadBalancer()
    balancer.register(Dying("a", "api-1", 80, metadata={"balancer": balancer}))
    balancer.deregister("a")
    gc.collect()
    assert Dying.left == 0
