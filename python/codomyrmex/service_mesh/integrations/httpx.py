"""httpx through a service proxy, as a transport.

    payments = ServiceProxy("payments")
    payments.load_balancer.register(ServiceInstance(id="1", host="10.0.0.1", port=8080))

    with httpx.Client(transport=MeshTransport(payments)) as client:
        response = client.get("http://payments/charges")
        response.extensions["service_mesh"].attempts

The proxy picks the instance, whose address replaces the host and port of the URL; the header `Host`, and for https the
name that the certificate is checked against, stay those of the URL. `exchange` says what a response means and what is
sent again. What the caller gets is httpx's own response or error, or the proxy's refusal. An attempt is over when the
headers of the response have come; what fails while its body is read is not tried again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import httpx

from ..models import Answer, ServiceInstance
from .exchange import IDEMPOTENT_METHODS, Exchange, Proxy, Rules

__all__ = ["AsyncMeshTransport", "MeshTransport"]

Classify = Callable[[httpx.Response | None, BaseException | None], Answer | None]
Key = Callable[[httpx.Request], Any]

# The caller's mistakes, and a pool of this client that is used up.
_NOT_THE_INSTANCE = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.PoolTimeout)
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class MeshTransport(httpx.BaseTransport):
    """Sends the requests of an `httpx.Client` to the instances of a proxy."""

    def __init__(
        self,
        proxy: Proxy,
        transport: httpx.BaseTransport | None = None,
        *,
        retry_methods: Collection[str] = IDEMPOTENT_METHODS,
        classify: Classify | None = None,
        key: Key | None = None,
    ) -> None:
        """`transport` sends the attempts; by default an `httpx.HTTPTransport`. See `exchange.Rules` for the others."""
        self._proxy = proxy
        self._transport = transport if transport is not None else httpx.HTTPTransport()
        self._rules: Rules[httpx.Request, httpx.Response] = Rules(retry_methods, classify, key)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One call of the proxy."""
        exchange = _exchange(self._rules, request)

        def send(instance: ServiceInstance) -> httpx.Response:
            exchange.attempt(instance)
            _close(exchange.take_response())
            exchange.response = self._transport.handle_request(_addressed(request, instance))
            return exchange.response

        options = self._proxy.with_options(key=exchange.key, classify=exchange.classify)
        try:
            response: httpx.Response = options.call(send)
        except BaseException:
            _close(exchange.take_response())
            raise
        response.extensions["service_mesh"] = exchange.delivery(self._proxy.service_name)
        return response

    def close(self) -> None:
        """Closes the transport that sends."""
        self._transport.close()


class AsyncMeshTransport(httpx.AsyncBaseTransport):
    """Sends the requests of an `httpx.AsyncClient` to the instances of a proxy, whose time limits stop an attempt."""

    def __init__(
        self,
        proxy: Proxy,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        retry_methods: Collection[str] = IDEMPOTENT_METHODS,
        classify: Classify | None = None,
        key: Key | None = None,
    ) -> None:
        """`transport` sends the attempts; by default an `AsyncHTTPTransport`. See `exchange.Rules` for the others."""
        self._proxy = proxy
        self._transport = transport if transport is not None else httpx.AsyncHTTPTransport()
        self._rules: Rules[httpx.Request, httpx.Response] = Rules(retry_methods, classify, key)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One call of the proxy."""
        exchange = _exchange(self._rules, request)

        async def send(instance: ServiceInstance) -> httpx.Response:
            exchange.attempt(instance)
            await _aclose(exchange.take_response())
            exchange.response = await self._transport.handle_async_request(_addressed(request, instance))
            return exchange.response

        options = self._proxy.with_options(key=exchange.key, classify=exchange.classify)
        try:
            response: httpx.Response = await options.call_async(send)
        except BaseException:
            await _aclose(exchange.take_response())
            raise
        response.extensions["service_mesh"] = exchange.delivery(self._proxy.service_name)
        return response

    async def aclose(self) -> None:
        """Closes the transport that sends."""
        await self._transport.aclose()


def _exchange(
    rules: Rules[httpx.Request, httpx.Response], request: httpx.Request
) -> Exchange[httpx.Request, httpx.Response]:
    return Exchange(
        rules,
        request,
        method=request.method,
        # What is held in memory; an iterator or a file is gone once it was read.
        replayable=isinstance(request.stream, httpx.ByteStream),
        status=lambda response: response.status_code,
        failed=lambda error: isinstance(error, httpx.TransportError) and not isinstance(error, _NOT_THE_INSTANCE),
        unsent=lambda error: isinstance(error, _UNSENT),
    )


def _addressed(request: httpx.Request, instance: ServiceInstance) -> httpx.Request:
    """The same request to an instance. Its headers hold the `Host` that httpx read from the URL."""
    extensions = request.extensions
    if request.url.scheme == "https":
        extensions = {"sni_hostname": request.url.host, **extensions}
    url = request.url.copy_with(host=instance.host, port=instance.port)
    return httpx.Request(request.method, url, headers=request.headers, stream=request.stream, extensions=extensions)


def _close(response: httpx.Response | None) -> None:
    if response is not None:
        response.close()


async def _aclose(response: httpx.Response | None) -> None:
    if response is not None:
        await response.aclose()
