"""What a `LoadBalancer` promises to Python; the strategies' own laws are proved where they are decided."""

import copy
import gc
import pickle
import threading
import time

import pytest

from codomyrmex.service_mesh.load_balancer import Lease, LoadBalancer
from codomyrmex.service_mesh.models import ConfigError, LoadBalancerStrategy, NoHealthyInstanceError, ServiceInstance
from codomyrmex.service_mesh.testing import ManualClock


def instances(names="abc", **fields):
    return [ServiceInstance(id=name, host=f"host-{name}", port=80, **fields) for name in names]


def picks(balancer, count):
    return "".join(balancer.get_instance().id for _ in range(count))


def test_the_first_pick_is_the_first_instance_and_the_object_is_the_very_one():
    registered = instances()
    balancer = LoadBalancer(strategy=LoadBalancerStrategy.ROUND_ROBIN)
    for one in registered:
        assert balancer.register(one) is None
    assert [balancer.get_instance() for _ in range(4)] == [*registered, registered[0]]
    assert balancer.get_instance() is registered[1]


def test_none_left_is_none_and_an_empty_balancer_is_true():
    balancer = LoadBalancer()
    assert balancer.get_instance() is None and bool(balancer) and len(balancer) == 0
    balancer.register(*instances("a", healthy=False))
    assert balancer.get_instance() is None


def test_unknown_ids_are_no_error():
    balancer = LoadBalancer(instances=instances("a"))
    assert balancer.deregister("nobody") is None
    assert balancer.mark_healthy("nobody", False) is False
    assert balancer.mark_healthy("a", False) is True


def test_marking_changes_the_object_too():
    (one,) = instances("a")
    balancer = LoadBalancer(instances=[one])
    balancer.mark_healthy("a", False)
    assert one.healthy is False and balancer.get_instance() is None
    balancer.mark_healthy("a")
    assert one.healthy is True and balancer.get_instance() is one


def test_an_id_that_is_no_text_is_its_text():
    one = ServiceInstance(id=7, host="api", port=80)
    balancer = LoadBalancer(instances=[one])
    assert balancer.get_instance() is one and "7" in balancer
    assert balancer.deregister(7) is one


def test_the_strategy_is_assigned_by_member_or_by_value():
    balancer = LoadBalancer("random")
    assert balancer.strategy is LoadBalancerStrategy.RANDOM
    for strategy in LoadBalancerStrategy:
        balancer.strategy = strategy.value
        assert balancer.strategy is strategy
        balancer.strategy = strategy
        assert balancer.strategy is strategy
    for wrong in ("round robin", 3, None):
        with pytest.raises(ValueError, match=r"^strategy is .*; allowed: 'round_robin', 'random', "):
            balancer.strategy = wrong
    with pytest.raises(ConfigError, match="; did you mean 'round_robin'\\?$") as raised:
        LoadBalancer("rond_robin")
    assert (raised.value.field, raised.value.value) == ("strategy", "'rond_robin'")


def test_a_second_init_with_a_strategy_that_there_is_not_changes_nothing():
    balancer = LoadBalancer("weighted", instances("a"))
    with pytest.raises(ValueError, match="strategy is 'nearest'"):
        balancer.__init__("nearest", instances("b"))
    assert balancer.strategy is LoadBalancerStrategy.WEIGHTED
    assert [one.id for one in balancer] == ["a"]


@pytest.mark.parametrize("strategy", list(LoadBalancerStrategy))
def test_every_strategy_gives_registered_objects_and_honours_exclude(strategy):
    registered = instances("abcd")
    balancer = LoadBalancer(strategy, registered)
    assert all(balancer.get_instance() in registered for _ in range(20))
    assert all(balancer.get_instance(exclude=["a", registered[1], "c"]) is registered[3] for _ in range(20))
    assert balancer.get_instance(exclude="a").id != "a"
    assert balancer.get_instance(exclude=registered[0]).id != "a"
    assert balancer.get_instance(exclude=registered) is None


def test_equal_keys_go_to_one_instance_in_every_balancer():
    keys = ["customer-42", "käse", "\ud800", 42, -1, 2**70, b"bytes", ("customer", 42)]
    balancers = [LoadBalancer("consistent_hash", instances("abcdef")) for _ in range(2)]
    for key in keys:
        homes = {balancer.get_instance(key).id for balancer in balancers for _ in range(5)}
        assert len(homes) == 1
        (home,) = homes
        assert balancers[0].get_instance(key=key, exclude=[home]).id != home
    assert len({balancers[0].get_instance(key=number).id for number in range(100)}) == 6
    with pytest.raises(TypeError, match="a key must be"):
        balancers[0].get_instance(key=1.5)


def test_weights_are_smooth():
    heavy, light, other = instances("abc")
    heavy.weight = 5
    balancer = LoadBalancer(LoadBalancerStrategy.WEIGHTED, [heavy, light, other])
    picked = picks(balancer, 7)
    assert [picked.count(name) for name in "abc"] == [5, 1, 1] and "aaaaa" not in picked


def test_it_is_a_collection_of_its_instances():
    registered = instances()
    balancer = LoadBalancer(instances=registered)
    assert list(balancer) == registered and len(balancer) == 3
    assert "a" in balancer and registered[0] in balancer
    assert "z" not in balancer and instances("a")[0] not in balancer and 5 not in balancer
    assert balancer["b"] is registered[1]
    with pytest.raises(KeyError):
        balancer["z"]
    assert repr(LoadBalancer()) == "LoadBalancer(LoadBalancerStrategy.ROUND_ROBIN, [])"


def test_instances_is_a_live_mapping():
    registered = instances()
    balancer = LoadBalancer(instances=registered)
    known = balancer._instances
    assert dict(known) == dict(zip("abc", registered, strict=True)) and list(known) == ["a", "b", "c"]
    del known["a"]
    (fresh,) = instances("d")
    known["d"] = fresh
    assert picks(balancer, 3) == "bcd" and known["d"] is fresh
    with pytest.raises(KeyError):
        del known["a"]
    with pytest.raises(ValueError, match="the instance's id is 'd'"):
        known["e"] = fresh
    known.clear()
    assert balancer.get_instance() is None and repr(known) == "{}"


def test_a_lease_counts_its_connection_until_the_block_is_left():
    registered = instances("ab")
    balancer = LoadBalancer("least_connections", registered)
    with balancer.lease() as first:
        with balancer.lease() as second:
            assert {first.id, second.id} == {"a", "b"} and first in registered
            assert [one.in_flight for one in registered] == [1, 1]
        assert balancer.get_instance() is second
    assert [one.in_flight for one in registered] == [0, 0]
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), balancer.lease():
            raise error
    assert [one.in_flight for one in registered] == [0, 0]


def test_a_lease_that_is_forgotten_gives_its_connection_back():
    (one,) = instances("a")
    balancer = LoadBalancer(instances=[one])
    lease = balancer.lease()
    assert isinstance(lease, Lease) and lease.instance is one and one.in_flight == 1
    assert repr(lease) == f"Lease({one!r})"
    lease.release()
    lease.release()
    assert one.in_flight == 0
    lease = balancer.lease()
    del lease
    gc.collect()
    assert one.in_flight == 0


def test_a_lease_of_nobody_is_an_error():
    with pytest.raises(NoHealthyInstanceError, match="No healthy instances"):
        LoadBalancer().lease()
    balancer = LoadBalancer("consistent_hash", instances())
    home = balancer.get_instance(key="k")
    assert balancer.lease(key="k").instance is home
    assert balancer.lease(key="k", exclude=[home]).instance is not home


class Sticky(LoadBalancer):
    def __init__(self, favourite):
        super().__init__("random", instances())
        self.favourite = favourite

    def get_instance(self, key=None, exclude=()):
        return self[self.favourite]


class Registering(LoadBalancer):
    def register(self, instance):
        instance.metadata["seen"] = True
        return super().register(instance)


def test_a_subclass_may_take_other_arguments_and_pick_in_its_own_way():
    balancer = Sticky("b")
    assert picks(balancer, 3) == "bbb"
    with balancer.lease() as leased:
        assert leased is balancer["b"] and leased.in_flight == 1
    assert leased.in_flight == 0
    (one,) = instances("a")
    assert Registering(instances=[one]).get_instance().metadata == {"seen": True}


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_and_pickles_have_the_same_instances_and_live_alone(twin):
    balancer = Sticky("c")
    balancer.strategy = "weighted"
    balancer["b"].healthy = False
    other = twin(balancer)
    assert type(other) is Sticky and other.favourite == "c"
    assert other.strategy is LoadBalancerStrategy.WEIGHTED and list(other) == list(balancer)
    other.deregister("a")
    assert "a" in balancer and "a" not in other
    assert (other["c"] is balancer["c"]) is (twin is copy.copy)


def test_instances_come_and_go_while_threads_pick():
    registered = instances("abcdefgh")
    balancer = LoadBalancer(instances=registered)
    stop, errors = threading.Event(), []

    def pick():
        try:
            while not stop.is_set():
                assert balancer.get_instance() in registered
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=pick) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        for one in registered[1:]:
            balancer.deregister(one.id)
            one.healthy = not one.healthy
            balancer.register(one)
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
    for one in registered:
        assert (balancer.get_instance(exclude=[x for x in registered if x is not one]) is one) is one.healthy


def test_the_clock_may_come_from_a_subclass_alone():
    class Slow(LoadBalancer):
        def __init__(self, clock):
            super().__init__("weighted", slow_start=10, clock=clock)

    clock = ManualClock()
    balancer = Slow(clock)
    balancer.register(ServiceInstance("old", "h", 1))
    clock.advance(100)
    balancer.register(ServiceInstance("new", "h", 2))
    clock.advance(1)
    early = sum(balancer.get_instance().id == "new" for _ in range(100))
    clock.advance(100)
    late = sum(balancer.get_instance().id == "new" for _ in range(100))
    assert early < 30 and 45 <= late <= 55


def test_a_subclass_may_call_something_else_a_clock():
    class Timed(LoadBalancer):
        def __init__(self, clock):
            super().__init__()
            self.clock = clock

    assert Timed(clock=time.monotonic).clock is time.monotonic
    with pytest.raises(TypeError, match=r"clock must be a codomyrmex.service_mesh.testing.ManualClock, not int"):
        LoadBalancer(clock=5)
