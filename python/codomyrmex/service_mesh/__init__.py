"""Circuit breaking, load balancing, retry, and a service proxy that joins them: decided in Rust, at nanoseconds a call."""

from .models import (
    AttemptTimedOutError,
    CircuitBreakerConfig,
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

__all__ = [
    "AttemptTimedOutError",
    "CircuitBreakerConfig",
    "CircuitOpenError",
    "CircuitState",
    "ConfigError",
    "CountWindow",
    "DeadlineExceededError",
    "LoadBalancerStrategy",
    "NoHealthyInstanceError",
    "ServiceInstance",
    "ServiceMeshError",
    "TimeWindow",
]
