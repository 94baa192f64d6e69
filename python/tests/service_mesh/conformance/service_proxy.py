"""Plays scenarios of a service proxy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from .circuit_breaker import READINGS, Refusal
from .expect import mismatch, names, row, same, told, within
from .load_balancer import instance
from .replies import Reply
from .scenarios import Scenario, Step, step_by_step

SERVICE = "api"
RETRY = ": retry: "
REFUSALS = ("circuit_open", "no_healthy_instance")


@dataclass(frozen=True)
class Told:
    """What the story of a call tells: what came of each attempt, and why there was no other."""

    outcomes: list[str]
    given_up: str | None


@dataclass(frozen=True)
class Ended:
    """What the caller got: the word for it, and of a refusal whose, why and its cause; and the story, if one was told."""

    returned: str
    name: str | None = None
    refusal: Refusal | None = None
    cause: str | None = None
    attempts: int | None = None
    story: Told | None = None


@dataclass
class Progress:
    tried: list[str] = field(default_factory=list)
    ended: Ended | None = None


class Driver(Protocol):
    def advance(self, seconds: float) -> None: ...
    def now(self) -> float: ...
    def set_answer(self, instance: str, answer: Reply | None) -> None:
        """None: it hangs."""

    def callers(self, callers: int, timeout: float | None = None) -> list[Progress]: ...
    def hold(self, call: str) -> None: ...
    def answer(self, call: str, reply: Reply) -> None: ...
    def cancel(self, call: str, stalled: float) -> None: ...
    def progress(self, call: str) -> Progress: ...
    def take_sleeps(self) -> list[float]: ...
    def register(self, instance: dict[str, Any]) -> None: ...
    def deregister(self, id: str) -> None: ...
    def mark_healthy(self, id: str, healthy: bool) -> None: ...
    def force(self, state: str) -> None: ...
    def reset(self) -> None: ...
    def service(self) -> dict[str, Any]: ...
    def instance(self, id: str) -> dict[str, Any] | None: ...
    def leased(self, id: str) -> int: ...
    def take_events(self) -> list[str]: ...


def answer(written: str | dict[str, Any]) -> Reply | None:
    return None if written == "hang" else Reply.written(written)


def play(scenario: Scenario, driver: Driver) -> None:
    running: dict[str, int] = {}
    ids = [instance(written)["id"] for written in scenario.table.get("instances", [])]
    for id, written in scenario.table.get("answers", {}).items():
        driver.set_answer(id, answer(written))
    for step in step_by_step(scenario):
        begin = driver.now()
        _act(step, driver, running, ids)
        took = driver.now() - begin
        if "took_seconds" in step:
            within("took_seconds", step.take("took_seconds"), took)
        sleeps = driver.take_sleeps()
        if "sleeps_seconds" in step:
            row("sleeps_seconds", step.take("sleeps_seconds"), sleeps)
        _readings(step, driver)
        if not running:
            _everything_was_given_back(driver, ids)


def _act(step: Step, driver: Driver, running: dict[str, int], ids: list[str]) -> None:
    if step.take("call"):
        timeout = step.take("timeout_seconds")
        _all(step, (driver.callers(1, timeout)[0] for _ in range(step.take("times", 1))))
    elif "callers" in step:
        _all(step, driver.callers(step.take("callers")))
    elif "hold" in step:
        call = step.take("hold")
        driver.hold(call)
        running[call] = 0
        _go_on(step, call, driver, running)
    elif "answer" in step:
        call = step.take("answer")
        driver.answer(call, Reply.written(step.take("with")))
        _go_on(step, call, driver, running)
    elif "drop" in step:
        call = step.take("drop")
        driver.cancel(call, step.take("stalled_seconds", 0.0))
        del running[call]
    elif "advance_seconds" in step:
        driver.advance(step.take("advance_seconds"))
        _ended(step, driver, running)
    elif "set" in step:
        for id, written in step.take("set").items():
            driver.set_answer(id, answer(written))
    else:
        _change(step, driver, ids)


def _change(step: Step, driver: Driver, ids: list[str]) -> None:
    if "register" in step:
        new = instance(step.take("register"))
        driver.register(new)
        ids.append(new["id"])
    elif "deregister" in step:
        id = step.take("deregister")
        driver.deregister(id)
        ids[:] = [other for other in ids if other != id]
    elif "mark_healthy" in step:
        driver.mark_healthy(step.take("mark_healthy"), True)
    elif "mark_unhealthy" in step:
        driver.mark_healthy(step.take("mark_unhealthy"), False)
    elif "force" in step:
        driver.force(step.take("force"))
    elif step.take("reset"):
        driver.reset()
    else:
        raise AssertionError(f"no action in {step.table}")


def _go_on(step: Step, call: str, driver: Driver, running: dict[str, int]) -> None:
    progress = driver.progress(call)
    _tried(step, progress.tried[running[call] :])
    if progress.ended:
        del running[call]
    else:
        running[call] = len(progress.tried)
    _judge(step, progress)


def _tried(step: Step, tried: list[str]) -> None:
    if "tries" in step:
        names("tries", step.take("tries"), tried)


def _judge(step: Step, progress: Progress) -> None:
    expected = step.take("returns")
    ended = progress.ended
    if expected is None or ended is None:
        if expected is not None or ended is not None:
            raise mismatch("returns", expected or "nothing yet", ended or "nothing yet")
        return
    reason, retry_after, cause = step.take("refused"), step.take("retry_after_seconds"), step.take("cause")
    same("returns", expected, ended.returned)
    if expected in REFUSALS:
        same("cause", cause, ended.cause)
    if ended.attempts is not None:
        same("attempts told", len(progress.tried), ended.attempts)
    if ended.refusal is not None:
        same("the refusing circuit", SERVICE, ended.name)
        if reason is not None:
            same("refused", reason, ended.refusal.reason)
        told("retry_after_seconds", retry_after, ended.refusal.retry_after)
    outcomes, given_up = step.take("outcomes"), step.take("given_up")
    if outcomes is not None:
        assert ended.story is not None, "the call was asked for its story"
        names("outcomes", outcomes, ended.story.outcomes)
        same("given_up", given_up, ended.story.given_up)


def _all(step: Step, calls: Iterable[Progress]) -> None:
    attempts: Counter[str] = Counter()
    for progress in calls:
        _tried(step, progress.tried)
        _judge(step, progress)
        attempts.update(progress.tried)
    for id, bounds in step.take("attempts_at", {}).items():
        within(f"attempts at {id}", bounds, attempts[id])


def _ended(step: Step, driver: Driver, running: dict[str, int]) -> None:
    got = {}
    for call in list(running):
        progress = driver.progress(call)
        running[call] = len(progress.tried)
        if progress.ended:
            got[call] = progress.ended.returned
            del running[call]
    same("ended", step.take("ended", {}), got)


def _readings(step: Step, driver: Driver) -> None:
    service = driver.service()
    for key in READINGS:
        if key in step:
            same(key, step.take(key), service[key])
    for key, reading in [
        ("instance_states", "state"),
        ("instance_failure_counts", "failure_count"),
        ("instance_half_open_calls", "half_open_calls"),
    ]:
        for id, expected in step.take(key, {}).items():
            of_instance = driver.instance(id)
            same(f"{reading} of {id}", expected, of_instance and of_instance[reading])
    for id, expected in step.take("leased", {}).items():
        same(f"leased of {id}", expected, driver.leased(id))
    heard = driver.take_events()
    retries = [event.partition(RETRY)[2] for event in heard if RETRY in event]
    if "retries" in step:
        same("retries", step.take("retries"), retries)
    if "events" in step:
        same("events", _by_name(step.take("events")), _by_name(event for event in heard if RETRY not in event))


def _everything_was_given_back(driver: Driver, ids: list[str]) -> None:
    same("half_open_calls with no call running", 0, driver.service()["half_open_calls"])
    for id in ids:
        same(f"leased of {id} with no call running", 0, driver.leased(id))
        places = driver.instance(id)
        same(f"half_open_calls of {id} with no call running", 0, places["half_open_calls"] if places else 0)


def _by_name(events: Iterable[str]) -> list[str]:
    """Events of one circuit come in order; among several, no order is promised."""
    return sorted(events, key=lambda event: event.partition(":")[0])
