"""The fields of the configurations, as keyword arguments: what a type checker allows where they may be given one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

if TYPE_CHECKING:
    from ._native import RetryBudget
    from .models import CircuitEvent, CountWindow, Errors, Seconds, TimeWindow
    from .testing import ManualClock

__all__ = ["CircuitBreakerFields", "CircuitBreakerOptions", "Jitter", "RetryOptions"]

Jitter: TypeAlias = bool | Literal["none", "proportional", "full", "equal", "decorrelated"]
"""What may be said of the jitter of a retry: `True` is `"proportional"`, `False` is `"none"`."""


class CircuitBreakerFields(TypedDict, total=False):
    """The fields of `CircuitBreakerConfig`, which says what they mean."""

    failure_threshold: int
    success_threshold: int
    timeout_seconds: Seconds
    half_open_max_calls: int
    consecutive: bool
    timeout_multiplier: float
    timeout_jitter_ratio: float
    timeout_max_seconds: Seconds | None
    probe_timeout_seconds: Seconds | None
    count_window: CountWindow | None
    time_window: TimeWindow | None
    on: Errors
    ignore: Errors
    failed_result: Callable[[Any], bool] | None


class CircuitBreakerOptions(CircuitBreakerFields, total=False):
    """The same, and the other arguments of `CircuitBreaker`."""

    listeners: Iterable[Callable[[CircuitEvent], object]] | None
    clock: ManualClock | None


class RetryOptions(TypedDict, total=False):
    """The arguments of `RetryPolicy` but the first."""

    initial_delay: Seconds
    max_delay: Seconds
    exponential_base: float
    jitter: Jitter
    retry_after_max: Seconds
    on: Errors
    ignore: Errors
    failed_result: Callable[[Any], bool] | None
    budget: RetryBudget | None
    clock: ManualClock | None
