"""Circuit breaking, load balancing, retry, and a service proxy that joins them: decided in Rust, at nanoseconds a call."""

from ._native import claim_interpreter as _claim_interpreter

_claim_interpreter()

from ._native import CircuitBreaker, Permit, RetryBudget, RetryPolicy  # noqa: E402
from .load_balancer import Lease, LoadBalancer  # noqa: E402
from .mesh import Mesh, PolicyError  # noqa: E402
from .models import (  # noqa: E402
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
from .public_decorators import with_circuit_breaker, with_retry  # noqa: E402
from .service_proxy import ServiceProxy  # noqa: E402

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
    "Lease",
    "LoadBalancer",
    "LoadBalancerStrategy",
    "Mesh",
    "NoHealthyInstanceError",
    "Permit",
    "PolicyError",
    "RetryBudget",
    "RetryPolicy",
    "ServiceInstance",
    "ServiceMeshError",
    "ServiceProxy",
    "TimeWindow",
    "with_circuit_breaker",
    "with_retry",
]
