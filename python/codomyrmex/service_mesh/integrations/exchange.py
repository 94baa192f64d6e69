"""One HTTP request on its way through a proxy: what the clients of all libraries have in common.

A response of 5xx is a failure of the instance. 429 says nothing against it: neutral, and to be tried again, at another
instance at best. `Retry-After` of either is honoured. Any other response is a success, 404 as well: the service did
answer. A request that may have been sent is sent again only if its method is idempotent; one that cannot have been
sent, whatever its method; and neither, if its body can be read only once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from .. import retry
from ..models import Answer, ServiceInstance

__all__ = ["IDEMPOTENT_METHODS", "Delivery", "Exchange", "Proxy", "Rules"]

IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that do no more when they are done twice (RFC 9110, 9.2.2)."""

_TOO_MANY_REQUESTS = 429
_SERVER_ERRORS = range(500, 600)
# Nobody else will implement the method, or speak the version, either.
_FINAL_SERVER_ERRORS = (501, 505)


class Proxy(Protocol):
    """Who sends requests to instances: a `ServiceProxy`, or a `TracedProxy` of one."""

    @property
    def service_name(self) -> str:
        """The service's name."""
        ...

    def with_options(self, *, key: Any, classify: Any) -> Any:
        """The same for one request."""
        ...


Request = TypeVar("Request")
Response = TypeVar("Response")


@dataclass(frozen=True)
class Delivery:
    """How a response was come by."""

    service: str
    """The name of the service."""
    instance: ServiceInstance
    """The instance that answered."""
    attempts: int
    """The attempts that it took; 1 if the first was answered."""


@dataclass(frozen=True)
class Rules(Generic[Request, Response]):
    """What a client says of all its requests."""

    retry_methods: Collection[str] = IDEMPOTENT_METHODS
    """Methods that may be sent again, in capitals."""
    classify: Callable[[Response | None, BaseException | None], Answer | None] | None = None
    """Says what an attempt means, before anybody else; `None` leaves it to the rules of this module."""
    key: Callable[[Request], Any] | None = None
    """What a request is about, for `CONSISTENT_HASH`."""


class Exchange(Generic[Request, Response]):
    """One request, its attempts, and what they mean."""

    def __init__(
        self,
        rules: Rules[Request, Response],
        request: Request,
        *,
        method: str,
        replayable: bool,
        status: Callable[[Response], int],
        failed: Callable[[BaseException], bool],
        unsent: Callable[[BaseException], bool],
    ) -> None:
        """`replayable`: its body can be read again. `failed`: the error speaks against the instance. `unsent`: no byte
        of the request can have arrived."""
        self._rules = rules
        self._may_repeat = replayable and method.upper() in rules.retry_methods
        self._replayable = replayable
        self._status = status
        self._failed = failed
        self._unsent = unsent
        self._attempts = 0
        self._instance: ServiceInstance | None = None
        self.key = rules.key(request) if rules.key else None
        self.response: Response | None = None

    def attempt(self, instance: ServiceInstance) -> None:
        """An attempt begins."""
        self._attempts += 1
        self._instance = instance

    def take_response(self) -> Response | None:
        """The response that was got so far, which is to be closed, since it is not the last."""
        response, self.response = self.response, None
        return response

    def delivery(self, service: str) -> Delivery:
        """What is told of it in the end."""
        assert self._instance is not None, "a response comes from an instance"
        return Delivery(service, self._instance, self._attempts)

    def classify(self, response: Response | None, error: BaseException | None) -> Answer | None:
        """What an attempt means."""
        if self._rules.classify is not None:
            answer = self._rules.classify(response, error)
            if answer is not None:
                return answer
        if error is not None:
            return self._classify_error(error)
        assert response is not None, "an attempt has a response or an error"
        status = self._status(response)
        if status == _TOO_MANY_REQUESTS:
            return Answer("neutral", retryable=self._may_repeat, retry_after=retry.retry_after_of(response))
        if status in _SERVER_ERRORS:
            retryable = self._may_repeat and status not in _FINAL_SERVER_ERRORS
            return Answer("failure", retryable=retryable, retry_after=retry.retry_after_of(response))
        return Answer("success")

    def _classify_error(self, error: BaseException) -> Answer:
        unsent = self._unsent(error)
        retryable = self._may_repeat or (unsent and self._replayable)
        if self._failed(error):
            return Answer("failure", retryable=retryable)
        # A mistake of the caller's, or a shortage of the client's own, which says nothing of the instance.
        return Answer("neutral", retryable=unsent and retryable)
