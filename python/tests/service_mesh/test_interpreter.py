"""What the interpreter must be able to rely on: nothing leaks, cycles are collected, and where we cannot be, we say so."""

from __future__ import annotations

import asyncio
import gc
import resource
import subprocess
import sys
import weakref
from collections.abc import Callable
from textwrap import dedent
from typing import Any

import pytest

from codomyrmex.service_mesh import (
    CircuitBreaker,
    CircuitOpenError,
    LoadBalancer,
    RetryPolicy,
    ServiceInstance,
    ServiceProxy,
    with_circuit_breaker,
    with_retry,
)

# They look at the whole process.
pytestmark = pytest.mark.thread_unsafe(reason="it counts what the whole process holds")

MILLION = 1_000_000


def works(*args: Any, **kwargs: Any) -> Any:
    return args


def fails(*_: Any) -> None:
    raise ConnectionError


def proxy() -> ServiceProxy:
    lb = LoadBalancer()
    for id in "abc":
        lb.register(ServiceInstance(id=id, host=id, port=80))
    return ServiceProxy("s", lb, retry_policy=RetryPolicy(initial_delay=0))


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def calls() -> dict[str, tuple[Callable[[Any], Any], int]]:
    """What is called with an object of no value, and how often."""
    guarded, retried = with_circuit_breaker("b")(works), with_retry()(works)
    breaker, policy, service = CircuitBreaker("b"), RetryPolicy(max_retries=1, initial_delay=0), proxy()
    refusing = CircuitBreaker("open")
    refusing.force_open()
    balancer = service.load_balancer

    def entered(thing: Any) -> None:
        with breaker:
            pass

    def failing(thing: Any) -> None:
        try:
            policy.execute(fails, thing)
        except ConnectionError:
            pass

    def counted(thing: Any) -> None:
        breaker.record_success()
        try:
            breaker.execute(fails, thing)
        except ConnectionError:
            pass

    def refused(thing: Any) -> None:
        try:
            refusing.execute(works, thing)
        except CircuitOpenError:
            pass

    def leased(thing: Any) -> None:
        with balancer.lease():
            pass

    return {
        "a decorated function": (guarded, MILLION),
        "with a keyword": (lambda thing: guarded(1, b=thing), MILLION),
        "a retried function": (retried, MILLION),
        "execute": (lambda thing: breaker.execute(works, thing), MILLION),
        "with": (entered, MILLION),
        "a permit that is dropped": (lambda thing: breaker.acquire() and None, MILLION // 4),
        "a failure": (counted, MILLION // 4),
        "a retry": (failing, MILLION // 10),
        "a refusal": (refused, MILLION // 10),
        "a pick": (lambda thing: balancer.get_instance() and None, MILLION),
        "a lease": (leased, MILLION // 4),
        "the proxy": (lambda thing: service.call(works, thing) and None, MILLION // 4),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("what", calls())
def test_a_million_calls_leave_nothing_behind(what: str) -> None:
    call, times = calls()[what]
    thing: Any = object()

    def run(times: int) -> None:
        for _ in range(times):
            call(thing)

    run(20_000)
    gc.collect()
    counts, blocks, resident = (
        (sys.getrefcount(thing), sys.getrefcount(works)),
        sys.getallocatedblocks(),
        resident_bytes(),
    )
    run(times)
    gc.collect()
    assert (sys.getrefcount(thing), sys.getrefcount(works)) == counts
    assert sys.getallocatedblocks() - blocks < 500
    # The least that can be lost is 16 bytes a call.
    assert resident_bytes() - resident < 512 * 1024


def test_a_million_awaited_calls_leave_nothing_behind() -> None:
    async def nothing(thing: Any) -> None: ...

    guarded = with_circuit_breaker("b")(with_retry()(nothing))
    thing: Any = object()

    async def run(times: int) -> None:
        for _ in range(times):
            await guarded(thing)

    asyncio.run(run(10_000))
    gc.collect()
    count, blocks = sys.getrefcount(thing), sys.getallocatedblocks()
    asyncio.run(run(MILLION // 4))
    gc.collect()
    assert sys.getrefcount(thing) == count
    assert sys.getallocatedblocks() - blocks < 500


class Canary:
    """Dies when what it hangs on dies."""


@pytest.mark.parametrize("decorate", [with_circuit_breaker("b"), with_retry(), with_circuit_breaker, with_retry])
def test_a_cycle_through_a_decorated_function_is_collected(decorate: Callable[[Any], Any]) -> None:
    canary = Canary()
    died = weakref.ref(canary)

    def recursive(depth: int) -> int:
        assert canary is not None
        return depth and itself(depth - 1)  # type: ignore[has-type]

    itself = decorate(recursive)
    itself.me = itself
    assert itself(3) == 0
    del recursive, itself, canary
    gc.collect()
    assert died() is None


def test_a_cycle_through_a_class_with_decorated_methods_is_collected() -> None:
    class Client:
        canary = Canary()

        @with_circuit_breaker("b")
        def fetch(self) -> type:
            return Client

    died = weakref.ref(Client.canary)
    assert Client().fetch() is Client
    del Client
    gc.collect()
    assert died() is None


def test_a_cycle_through_a_breaker_its_config_and_its_listener_is_collected() -> None:
    breaker: Any = CircuitBreaker("b")
    breaker.canary = canary = Canary()
    died = weakref.ref(canary)
    breaker.config.failed_result = lambda result: breaker is None
    breaker.subscribe(lambda event: breaker)
    breaker.me = breaker
    del breaker, canary
    gc.collect()
    assert died() is None


def test_a_cycle_through_a_proxy_and_its_parts_is_collected() -> None:
    service: Any = proxy()
    instance: Any = ServiceInstance(id="d", host="d", port=80, metadata={"proxy": service, "canary": Canary()})
    died = weakref.ref(instance.metadata["canary"])
    service.load_balancer.register(instance)
    service.me = service
    for _ in range(8):
        service.call(works)
    del service, instance
    gc.collect()
    assert died() is None


@pytest.mark.parametrize("how", ["call", "call_async", "decorated"])
def test_a_call_that_is_cancelled_while_it_waits_leaves_nothing_behind(how: str) -> None:
    service = proxy()
    service.retry_policy.initial_delay = 9
    seen: list[weakref.ref[Canary]] = []

    async def failing(instance: ServiceInstance) -> None:
        canary = Canary()
        seen.append(weakref.ref(canary))
        raise ConnectionError

    async def main() -> None:
        calls = {"call": lambda: service.call(failing), "call_async": lambda: service.call_async(failing)}
        task = asyncio.create_task(calls.get(how, service(failing))())
        await asyncio.sleep(0)  # the attempt fails at once, and then it waits
        assert seen
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    gc.collect()
    assert [ref() for ref in seen] == [None]


def test_the_last_failure_keeps_no_frame_alive() -> None:
    """A breaker lives long. What it remembers of a failure must not keep the locals of the call that failed."""
    breaker = CircuitBreaker("b")

    def failing() -> weakref.ref[Canary]:
        canary = Canary()
        seen.append(weakref.ref(canary))
        raise ConnectionError

    seen: list[weakref.ref[Canary]] = []
    with pytest.raises(ConnectionError):
        breaker.execute(failing)
    gc.collect()
    assert seen[0]() is None


def test_a_finalizer_may_call_what_is_guarded_while_the_interpreter_goes_away() -> None:
    program = """
    import builtins
    from codomyrmex.service_mesh import CircuitBreaker, with_circuit_breaker, with_retry

    def fails():
        raise ValueError("as ever")

    class Client:
        breaker, broken, tried = CircuitBreaker("b"), with_circuit_breaker("b")(fails), with_retry(0)(fails)

        @with_circuit_breaker("close")
        def close(self, how):
            return how

        def __del__(self, print=print, getattr=getattr, ValueError=ValueError):
            print(getattr(self, "close")("closed"), flush=True)
            for call in (type(self).broken, type(self).tried, lambda: self.breaker.execute(type(self).broken)):
                try:
                    call()
                except ValueError as error:
                    print(error, flush=True)

    builtins.client = Client()
    # What tells failures apart is imported when it is first needed.
    for call in (Client.broken, Client.tried):
        try:
            call()
        except ValueError:
            pass
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["closed"] + ["as ever"] * 3


@pytest.mark.parametrize(
    "guard",
    [
        "with_circuit_breaker('b')(works)",
        "lambda: CircuitBreaker('b').execute(works)",
        "with_retry(max_retries=50, initial_delay=0)(fails)",
        "with_retry(max_retries=50, initial_delay=0.0001)(fails)",
        "lambda: RetryPolicy(failed_result=lambda result: works() is None).execute(works)",
        "lambda: service.call(works)",
        "lambda: service.with_options(key='k').call(works)",
        "lambda: [attempt.__exit__(None, None, None) for attempt in RetryPolicy()]",
        "lambda: CircuitBreaker('b', failure_threshold=2).update_config(failure_threshold=3)",
        "lambda: LoadBalancer().lease()",
        "lambda: setattr(CircuitBreaker('b'), 'state', 'closed')",
        # With refusals, changes of state, and a log of them.
        "with_retry(initial_delay=0)(CircuitBreaker('b', CircuitBreakerConfig(1, timeout_seconds=0))(fails))",
    ],
)
def test_a_program_may_end_while_daemon_threads_make_guarded_calls(guard: str) -> None:
    program = f"""
    import logging, threading
    from codomyrmex.service_mesh import *

    logging.lastResort = None

    def works(*args):
        return sum(range(50))

    def fails():
        works()
        raise ValueError

    service = ServiceProxy("s", LoadBalancer(instances=[ServiceInstance("a", "a", 1)]))
    guarded = {guard}
    under_way = threading.Barrier(5)

    def calls():
        under_way.wait()
        while True:
            try:
                guarded()
            except (ValueError, NoHealthyInstanceError):
                pass

    for _ in range(4):
        threading.Thread(target=calls, daemon=True).start()
    under_way.wait()
    for _ in range(20_000):  # so that each of them is in a call
        works()
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_in_a_sub_interpreter_the_import_is_refused_in_words() -> None:
    program = """
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters
    import codomyrmex.service_mesh as here
    other = interpreters.create()
    interpreters.run_string(other, '''
    try:
        import codomyrmex.service_mesh
    except ImportError as error:
        print("refused:", error, flush=True)
    else:
        print("imported", flush=True)
    ''')
    interpreters.destroy(other)
    breaker = here.CircuitBreaker("b")
    print(breaker.execute(lambda: "and here it works"))
    """
    program = dedent(program).replace("'''\ntry", "'''try")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    refused, works = done.stdout.splitlines()
    assert refused.startswith("refused:") and "interpreter" in refused
    assert works == "and here it works"
