from __future__ import annotations

from typing import Any

import pytest
import requests

from codomyrmex.service_mesh import ServiceProxy
from codomyrmex.service_mesh.integrations.requests import MeshAdapter, delivery

from .backend import Backend, Reply
from .exchanges import Asked, Exchanges, Received


class TestRequests(Exchanges):
    unreachable = requests.ConnectionError

    def send(self, proxy: ServiceProxy, asked: Asked, clock: Any, **options: Any) -> Received:
        with requests.Session() as session:
            session.mount("http://payments.internal", MeshAdapter(proxy, **options))
            request = requests.Request(asked.method, asked.url, data=asked.content, headers=asked.headers)
            prepared = session.prepare_request(request)
            if asked.once:
                prepared.headers.pop("Transfer-Encoding", None)
            response = session.send(prepared)
        told = response.json() if response.content else None
        return Received(response.status_code, told, delivery(response), response.url)

    def test_a_redirect_is_another_call(self, payments: ServiceProxy, servers: list[Backend]) -> None:
        servers[0].then(Reply(302, {"Location": "/there"}))
        with requests.Session() as session:
            session.mount("http://payments.internal", MeshAdapter(payments))
            response = session.get("http://payments.internal/here")
        assert (response.json()["by"], response.json()["path"]) == ("b", "/there")

    def test_cookies_belong_to_the_name_and_not_the_address(
        self, payments: ServiceProxy, servers: list[Backend]
    ) -> None:
        servers[0].then(Reply(200, {"Set-Cookie": "basket=7"}))
        with requests.Session() as session:
            session.mount("http://payments.internal", MeshAdapter(payments))
            session.get("http://payments.internal/")
            assert [(cookie.domain, cookie.value) for cookie in session.cookies] == [("payments.internal", "7")]

    def test_https_is_checked_against_the_name_and_not_the_address(self, payments: ServiceProxy) -> None:
        all_seen: list[dict[str, Any]] = []

        class Adapter(MeshAdapter):
            def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
                host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
                all_seen.append({**host, **pool})
                return host, pool

        payments.retry_policy.max_retries = 0
        with requests.Session() as session:
            session.mount("https://payments.internal", Adapter(payments))
            # The servers speak no TLS: it is the attempt that is looked at.
            with pytest.raises(requests.exceptions.SSLError):
                session.get("https://payments.internal/")
        (seen,) = all_seen
        assert (seen["host"], seen["server_hostname"], seen["assert_hostname"]) == (
            "127.0.0.1",
            "payments.internal",
            "payments.internal",
        )

    def test_a_response_by_another_adapter_has_no_delivery(self) -> None:
        assert delivery(requests.Response()) is None
