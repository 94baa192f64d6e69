"""aiohttp's client through a service proxy, as a middleware (aiohttp 3.12 or later).

    async with aiohttp.ClientSession(middlewares=[MeshMiddleware(payments)]) as session:
        async with session.get("http://payments/charges") as response:
            delivery(response).attempts

The proxy picks the instance, whose address replaces the host and port of the URL; the header `Host`, and for https the
name that the certificate is checked against, stay those of the URL, and so does `response.url`. `exchange` says what a
response means and what is sent again. What the caller gets is aiohttp's own response or error, or the proxy's refusal.
An attempt is over when the headers of the response have come; what fails while its body is read is not tried again.

aiohttp by itself sends an idempotent request once more whose kept connection turned out to be closed. It does so
outside of its middlewares: such a request is two calls of the proxy."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from aiohttp import (
    BytesPayload,
    ClientConnectionError,
    ClientConnectorError,
    ClientHandlerType,
    ClientPayloadError,
    ClientRequest,
    ClientResponse,
    ClientResponseError,
    ConnectionTimeoutError,
)

from ..models import Answer, ServiceInstance
from .exchange import IDEMPOTENT_METHODS, Delivery, Exchange, Proxy, Rules

__all__ = ["MeshMiddleware", "delivery"]

Classify = Callable[[ClientResponse | None, BaseException | None], Answer | None]
Key = Callable[[ClientRequest], Any]

_FAILED = (ClientConnectionError, ClientPayloadError, ClientResponseError, OSError)
_UNSENT = (ClientConnectorError, ConnectionTimeoutError)


class MeshMiddleware:
    """Sends the requests of a `ClientSession`, or of one call of it, to the instances of a proxy."""

    def __init__(
        self,
        proxy: Proxy,
        *,
        retry_methods: Collection[str] = IDEMPOTENT_METHODS,
        classify: Classify | None = None,
        key: Key | None = None,
    ) -> None:
        """See `exchange.Rules`."""
        self._proxy = proxy
        self._rules: Rules[ClientRequest, ClientResponse] = Rules(retry_methods, classify, key)

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """One call of the proxy."""
        exchange: Exchange[ClientRequest, ClientResponse] = Exchange(
            self._rules,
            request,
            method=request.method,
            # What is held in memory; an iterator or a file is gone once it was read.
            replayable=isinstance(request.body, (bytes, BytesPayload)),
            status=lambda response: response.status,
            failed=lambda error: isinstance(error, _FAILED),
            unsent=lambda error: isinstance(error, _UNSENT),
        )
        url, server_hostname = request.url, request.server_hostname

        async def send(instance: ServiceInstance) -> ClientResponse:
            exchange.attempt(instance)
            _close(exchange.take_response())
            # The header `Host` was made with the request.
            request.url = url.with_host(instance.host).with_port(instance.port)
            if url.scheme == "https" and server_hostname is None:
                request.server_hostname = url.host
            try:
                exchange.response = await handler(request)
            finally:
                request.url, request.server_hostname = url, server_hostname
            return exchange.response

        options = self._proxy.with_options(key=exchange.key, classify=exchange.classify)
        try:
            response: ClientResponse = await options.call_async(send)
        except BaseException:
            _close(exchange.take_response())
            raise
        setattr(response, _DELIVERY, exchange.delivery(self._proxy.service_name))
        return response


def delivery(response: ClientResponse) -> Delivery | None:
    """How a response was come by; `None` if not by a `MeshMiddleware`."""
    return getattr(response, _DELIVERY, None)


_DELIVERY = "service_mesh"


def _close(response: ClientResponse | None) -> None:
    if response is not None:
        response.close()
