"""What decides at run time: breaker, balancer, policy and proxy, and the decorators. The decisions themselves are in Rust."""

from ._native import CircuitBreaker, Permit, RetryBudget, RetryPolicy
from .load_balancer import Lease, LoadBalancer
from .public_decorators import with_circuit_breaker, with_retry
from .service_proxy import ServiceProxy

__all__ = [
    "CircuitBreaker",
    "Lease",
    "LoadBalancer",
    "Permit",
    "RetryBudget",
    "RetryPolicy",
    "ServiceProxy",
    "with_circuit_breaker",
    "with_retry",
]
