"""Circuit breaking, load balancing, retry, and a service proxy that joins them: decided in Rust, at nanoseconds a call."""

from ._native import claim_interpreter as _claim_interpreter

_claim_interpreter()

from .load_balancer import Lease, LoadBalancer  # noqa: E402
from .models import (  # noqa: E402
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
    "Lease",
    "LoadBalancer",
    "LoadBalancerStrategy",
    "NoHealthyInstanceError",
    "ServiceInstance",
    "ServiceMeshError",
    "TimeWindow",
]
