"""requests through a service proxy, as an adapter.

    session = requests.Session()
    session.mount("http://payments", MeshAdapter(payments))
    response = session.get("http://payments/charges")
    delivery(response).attempts

The proxy picks the instance, whose address replaces the host and port of the URL; the header `Host`, and for https the
name that the certificate is checked against, stay those of the URL, and so does `response.url`. `exchange` says what a
response means and what is sent again. What the caller gets is requests' own response or error, or the proxy's refusal.
Unless it is streamed, the body is read within the attempt."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import MaxRetryError, NewConnectionError

from ..models import Answer, ServiceInstance
from .exchange import IDEMPOTENT_METHODS, Delivery, Exchange, Proxy, Rules

__all__ = ["MeshAdapter", "delivery"]

Classify = Callable[[requests.Response | None, BaseException | None], Answer | None]
Key = Callable[[requests.PreparedRequest], Any]

_FAILED = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


class MeshAdapter(HTTPAdapter):
    """Sends the requests of a `requests.Session` to the instances of a proxy. Mount one for each service."""

    def __init__(
        self,
        proxy: Proxy,
        *,
        retry_methods: Collection[str] = IDEMPOTENT_METHODS,
        classify: Classify | None = None,
        key: Key | None = None,
        **pool: Any,
    ) -> None:
        """`pool` are the arguments of `HTTPAdapter`. See `exchange.Rules` for the others."""
        self._proxy = proxy
        self._rules: Rules[requests.PreparedRequest, requests.Response] = Rules(retry_methods, classify, key)
        super().__init__(**pool)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """One call of the proxy."""
        exchange: Exchange[requests.PreparedRequest, requests.Response] = Exchange(
            self._rules,
            request,
            method=request.method or "GET",
            # What is held in memory; an iterator or a file is gone once it was read.
            replayable=request.body is None or isinstance(request.body, (bytes, str)),
            status=lambda response: response.status_code,
            failed=lambda error: isinstance(error, _FAILED),
            unsent=_unsent,
        )

        def attempt(instance: ServiceInstance) -> requests.Response:
            exchange.attempt(instance)
            _close(exchange.take_response())
            addressed = _addressed(request, instance)
            response = super(MeshAdapter, self).send(addressed, stream, timeout, verify, cert, proxies)
            exchange.response = response
            if not stream:
                # What breaks off here is a failure of this attempt; what was read is kept.
                _ = response.content
            return response

        try:
            options = self._proxy.with_options(key=exchange.key, classify=exchange.classify)
            response: requests.Response = options.call(attempt)
        except BaseException:
            _close(exchange.take_response())
            raise
        # Redirects and cookies go by what the caller asked for.
        response.request = request
        response.url = request.url or ""
        setattr(response, _DELIVERY, exchange.delivery(self._proxy.service_name))
        return response

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        """The pool of an instance: that of its address, and of the name that its certificate must have."""
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        name = getattr(request, _NAME, None)
        if host["scheme"] == "https" and name:
            return host, {**pool, "server_hostname": name, "assert_hostname": name}
        return host, pool


def delivery(response: requests.Response) -> Delivery | None:
    """How a response was come by; `None` if not by a `MeshAdapter`."""
    return getattr(response, _DELIVERY, None)


_DELIVERY = "service_mesh"
# Of a request to an instance: the host that the caller asked for.
_NAME = "_service_mesh_host"


def _addressed(request: requests.PreparedRequest, instance: ServiceInstance) -> requests.PreparedRequest:
    url = urlsplit(request.url or "")
    addressed = request.copy()
    addressed.url = url._replace(netloc=instance.address).geturl()
    addressed.headers.setdefault("Host", url.netloc)
    setattr(addressed, _NAME, url.hostname)
    return addressed


def _unsent(error: BaseException) -> bool:
    if isinstance(error, requests.ConnectTimeout):
        return True
    cause = error.args[0] if isinstance(error, requests.ConnectionError) and error.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)


def _close(response: requests.Response | None) -> None:
    if response is not None:
        response.close()
