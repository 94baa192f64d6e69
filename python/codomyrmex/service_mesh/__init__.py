"""Circuit breaking, load balancing, retry, and a service proxy that joins them: decided in Rust, at nanoseconds a call."""

from typing import TYPE_CHECKING

from ._native import claim_interpreter as _claim_interpreter

_claim_interpreter()

# The classes themselves are native. What of them is Python (stories, waits, the errors of a policy file) is imported when
# it is first needed: an import of this package costs what the data classes cost.
from ._native import (
    CircuitBreaker,
    Lease,
    LoadBalancer,
    Mesh,
    Permit,
    RetryBudget,
    RetryPolicy,
    ServiceProxy,
)
from ._native import (
    __version__ as __version__,
)
from .models import (
    Answer,
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

if TYPE_CHECKING:
    from .mesh import PolicyError

__all__ = [
    "Answer",
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


def __getattr__(name: str) -> object:
    if name == "PolicyError":
        from .mesh import PolicyError

        return PolicyError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
