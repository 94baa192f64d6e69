"""The service proxy: `call`, sync and async."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from codomyrmex.service_mesh import (
    AttemptTimedOutError,
    CircuitBreaker,
    CircuitOpenError,
    DeadlineExceededError,
    LoadBalancer,
    NoHealthyInstanceError,
    RetryBudget,
    RetryPolicy,
    ServiceInstance,
    ServiceProxy,
)
from codomyrmex.service_mesh.service_proxy import ServiceProxyOptions, Story
from codomyrmex.service_mesh.testing import ManualClock, _Loop

from . import events
from .load_balancer import instance
from .replies import RETRY_PREDICATES, NestedRefusal, Replied, Reply, Value
from .scenarios import Scenario, parameters
from .service_proxy import SERVICE, Ended, Progress, Told, play
from .test_circuit_breaker import config_of, reading, refusal
from .test_retry import settings
from .turns import Turns

OK = Reply("ok")

# The policy file says the unit.
LIMITS = {
    "call_timeout_seconds": "timeout",
    "attempt_timeout_seconds": "attempt_timeout",
    "max_ejected_ratio": "max_ejected_ratio",
}


class Tries:
    """What a call says when an attempt begins."""

    def __init__(self, instance: str) -> None:
        self.instance = instance


def ended(came: Value | BaseException) -> Ended:
    """How a call ended."""
    if isinstance(came, (Value, Replied, NestedRefusal)):
        return Ended(came.kind)
    cause = came.__cause__
    assert cause is None or isinstance(cause, Replied), repr(cause)
    kind = None if cause is None else cause.kind
    match came:
        case CircuitOpenError():
            return Ended("circuit_open", came.name, refusal(came), kind)
        case NoHealthyInstanceError():
            return Ended("no_healthy_instance", cause=kind)
        case AttemptTimedOutError():
            return Ended("attempt_timed_out")
        case DeadlineExceededError():
            return Ended("deadline_exceeded")
    raise came


def story_told(story: Story | None) -> Told | None:
    """What came of the attempts at somebody."""
    if story is None:
        return None
    attempts = [attempt for attempt in story.attempts if attempt.instance is not None]
    return Told(["timed_out" if attempt.timed_out else attempt.outcome or "-" for attempt in attempts], story.given_up)


def proxy_of(table: dict[str, Any], clock: ManualClock) -> ServiceProxy:
    breaker = table.get("circuit_breaker", {})
    own = table.get("instance_circuit_breaker", {})
    budget = table.get("budget", {})
    return ServiceProxy(
        SERVICE,
        LoadBalancer(table.get("strategy", "round_robin"), clock=clock),
        CircuitBreaker(SERVICE, config_of(breaker), clock=clock),
        RetryPolicy(**settings(table.get("retry", {})), **RETRY_PREDICATES, clock=clock),
        instance_circuit_breaker=None if own == "off" else config_of({**breaker, **own}),
        budget=None if budget == "off" else RetryBudget(**budget, clock=clock),
        clock=clock,
        **{LIMITS[key]: value for key, value in table.get("config", {}).items()},
    )


class Service:
    """What both drivers share."""

    def __init__(self, scenario: Scenario) -> None:
        self.clock = ManualClock()
        self.proxy = proxy_of(scenario.table, self.clock)
        self.heard: list[Any] = []
        self.proxy.subscribe(self.heard.append)
        self.answers: dict[str, Reply | None] = {}
        self.slept = 0
        self.explains = any("outcomes" in step for step in scenario.table["steps"])
        for written in scenario.table.get("instances", []):
            self.register(instance(written))

    def asked(self, timeout: float | None) -> ServiceProxyOptions:
        """What a call asks for."""
        return self.proxy.with_options(timeout=timeout, explain=self.explains)

    def now(self) -> float:
        return self.clock.now()

    def set_answer(self, instance: str, answer: Reply | None) -> None:
        self.answers[instance] = answer

    def take_sleeps(self) -> list[float]:
        sleeps = self.clock.sleeps[self.slept :]
        self.slept += len(sleeps)
        return [sleep for sleep in sleeps if sleep]

    def register(self, instance: dict[str, Any]) -> None:
        self.proxy.load_balancer.register(ServiceInstance(**instance))

    def deregister(self, id: str) -> None:
        self.proxy.load_balancer.deregister(id)

    def mark_healthy(self, id: str, healthy: bool) -> None:
        self.proxy.load_balancer.mark_healthy(id, healthy)

    def force(self, state: str) -> None:
        getattr(self.proxy.circuit_breaker, f"force_{state}")()

    def reset(self) -> None:
        self.proxy.circuit_breaker.reset()

    def service(self) -> dict[str, Any]:
        return reading(self.proxy.circuit_breaker)

    def instance(self, id: str) -> dict[str, Any] | None:
        breaker = self.proxy.instance_circuit_breaker(id)
        return None if breaker is None else reading(breaker)

    def leased(self, id: str) -> int:
        return self.proxy.load_balancer.leased(id)

    def take_events(self) -> list[str]:
        heard, self.heard[:] = self.heard.copy(), []
        spoken_of = [event for event in heard if event.kind not in ("refused", "late_outcome")]
        return [f"{event.name}: {words}" for event in spoken_of if (words := events.words(event)) is not None]

    def close(self) -> None: ...


class Threads(Service):
    """Each call on a thread of its own. A wait moves the clock by itself."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.held: dict[str, tuple[Turns, Progress]] = {}
        self.options: dict[int, ServiceProxyOptions] = {}

    def begin(self, timeout: float | None = None) -> tuple[Turns, Progress]:
        asked = self.asked(timeout)

        def run(turns: Turns) -> Value | BaseException:
            def function(instance: ServiceInstance) -> Value:
                return turns.ask(Tries(instance.id)).answer()  # type: ignore[no-any-return]

            try:
                return asked.call(function)
            except Exception as error:
                return error

        turns, progress = Turns(run), Progress()
        self.options[id(progress)] = asked
        self.hear(turns.listen(), progress)
        return turns, progress

    def hear(self, said: Any, progress: Progress) -> None:
        if isinstance(said, Tries):
            progress.tried.append(said.instance)
        else:
            progress.ended = replace(ended(said), story=story_told(self.options.pop(id(progress)).story))

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def callers(self, callers: int, timeout: float | None = None) -> list[Progress]:
        begun = [self.begin(timeout) for _ in range(callers)]
        for turns, progress in begun:
            while progress.ended is None:
                reply = self.answers.get(progress.tried[-1], OK)
                assert reply is not None, "nobody can stop what hangs on a thread"
                self.clock.advance(reply.takes)
                self.hear(turns.tell(reply), progress)
        return [progress for _, progress in begun]

    def hold(self, call: str) -> None:
        self.held[call] = self.begin()

    def answer(self, call: str, reply: Reply) -> None:
        turns, progress = self.held[call]
        self.clock.advance(reply.takes)
        self.hear(turns.tell(reply), progress)

    def cancel(self, call: str, stalled: float) -> None:
        raise NotImplementedError

    def progress(self, call: str) -> Progress:
        return self.held[call][1]

    def close(self) -> None:
        for turns, progress in self.held.values():
            if progress.ended is None:
                turns.end()


class Task:
    """A call under way."""

    def __init__(self, held: bool, asked: ServiceProxyOptions) -> None:
        self.held = held
        self.asked = asked
        self.progress = Progress()
        self.reply: asyncio.Future[Reply] | None = None
        self.task: asyncio.Task[None] | None = None


class Tasks(Service):
    """Each call a task, in a loop whose time is the clock's and moves when the driver says so."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.loop = _Loop(self.clock, self.idle)
        self.until_next: int | None = None
        self.tasks: dict[str, Task] = {}

    def idle(self, until_next: int | None) -> bool:
        """Nothing is left to do while the clock stands still."""
        self.until_next = until_next
        self.loop.stop()
        return True

    def settle(self) -> None:
        self.loop.run_forever()

    def move(self) -> None:
        """To the next timer."""
        now, waits = self.clock.nanoseconds(), self.clock._next_timer()
        times = [now + self.until_next] if self.until_next is not None else []
        times += [waits] if waits is not None else []
        assert times, "the call would hang for ever"
        self.clock._advance_to(min(times))
        self.settle()

    def begin(self, held: bool, timeout: float | None = None) -> Task:
        task = Task(held, self.asked(timeout))
        task.task = self.loop.create_task(self.run(task))
        self.settle()
        return task

    async def run(self, task: Task) -> None:
        async def function(instance: ServiceInstance) -> Value:
            task.progress.tried.append(instance.id)
            task.reply = self.loop.create_future()
            if not task.held and (reply := self.answers.get(instance.id, OK)) is not None:
                if reply.takes:
                    await asyncio.sleep(reply.takes)
                return reply.answer()
            return (await task.reply).answer()

        came: Value | BaseException
        try:
            came = await task.asked.call(function)
        except Exception as error:
            came = error
        task.progress.ended = replace(ended(came), story=story_told(task.asked.story))

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.settle()

    def callers(self, callers: int, timeout: float | None = None) -> list[Progress]:
        tasks = [self.begin(held=False, timeout=timeout) for _ in range(callers)]
        while any(task.progress.ended is None for task in tasks):
            self.raise_if_failed(tasks)
            self.move()
        return [task.progress for task in tasks]

    def raise_if_failed(self, tasks: list[Task]) -> None:
        for task in tasks:
            assert task.task is not None
            if task.task.done():
                task.task.result()

    def hold(self, call: str) -> None:
        self.tasks[call] = self.begin(held=True)

    def answer(self, call: str, reply: Reply) -> None:
        task = self.tasks[call]
        assert task.reply is not None
        if reply.takes:
            self.clock.advance(reply.takes)
        task.reply.set_result(reply)
        self.settle()

    def cancel(self, call: str, stalled: float) -> None:
        self.clock.advance(stalled)
        task = self.tasks[call].task
        assert task is not None
        task.cancel()
        self.settle()
        assert task.cancelled()

    def progress(self, call: str) -> Progress:
        self.raise_if_failed([self.tasks[call]])
        return self.tasks[call].progress

    def close(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.settle()
        self.loop.close()


CAN = {Threads: {"overlap"}, Tasks: {"overlap", "cancel", "stop_attempts"}}


@pytest.mark.parametrize(
    ("driver", "scenario"),
    [
        pytest.param(driver, *parameter.values, id=f"{driver.__name__}: {parameter.id}", marks=parameter.marks)
        for driver, can in CAN.items()
        for parameter in parameters("service_proxy.toml", can)
    ],
)
def test_the_scenario_holds(driver: type[Threads | Tasks], scenario: Scenario) -> None:
    scenario.only(
        "strategy", "instances", "circuit_breaker", "instance_circuit_breaker", "retry", "budget", "config", "answers"
    )
    service = driver(scenario)
    try:
        play(scenario, service)
    finally:
        service.close()
