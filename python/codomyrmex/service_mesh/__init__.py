"""Circuit breaking, load balancing, retry, and a service proxy that joins them: decided in Rust, at nanoseconds a call."""

from ._native import CircuitBreaker, Permit, RetryBudget, RetryPolicy
from .models import (
    AttemptTimedOutError,
    CircuitBreakerConfig,
    CircuitEvent,
    CircuitOpenError,
    CircuitState,
    ConfigError,
    CountWindow,
    DeadlineExceededError,
    LoadBalancerStrategy,
    NoHealthyInstanceError,
    ServiceInstance,
    ServiceMeshError,
    TimeWindow,
)
from .public_decorators import with_circuit_breaker, with_retry

__all__ = [
    "AttemptTimedOutError",
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "CircuitEvent",
    "CircuitOpenError",
    "CircuitState",
    "ConfigError",
    "CountWindow",
    "DeadlineExceededError",
    "LoadBalancerStrategy",
    "NoHealthyInstanceError",
    "Permit",
    "RetryBudget",
    "RetryPolicy",
    "ServiceInstance",
    "ServiceMeshError",
    "TimeWindow",
    "with_circuit_breaker",
    "with_retry",
]
