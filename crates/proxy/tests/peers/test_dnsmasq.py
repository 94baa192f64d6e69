"""Instances that dnsmasq names by SRV records."""

import httpx


def test_who_is_named_is_asked_and_changes_are_followed(start):
    one, other = start.nginx("one"), start.nginx("other")
    port = start.free_port()

    def record(name, instance, weight):
        return f"--srv-host=_http._tcp.mesh.test,{name}.mesh.test,{instance.port},10,{weight}"

    hosts = ["--host-record=one.mesh.test,127.0.0.1", "--host-record=other.mesh.test,127.0.0.1"]
    server = start.dnsmasq(port, [record("one", one, 3), *hosts])
    discovery = f"srv = '_http._tcp.mesh.test'\nserver = '127.0.0.1:{port}'\nmin_ttl_seconds = 0.05"
    sidecar = start.sidecar(f"[services.api]\nstrategy = 'weighted'\n[services.api.discovery]\n{discovery}\n")

    def known(count):
        return lambda: len(sidecar.page("/snapshot").json()["services"][0]["instances"]) == count

    start.wait_until(known(1), "one instance")
    assert {httpx.get(sidecar.url).text for _ in range(3)} == {"one"}
    # Who was there stays while nobody answers.
    server.kill()
    assert httpx.get(sidecar.url).text == "one"
    server = start.dnsmasq(port, [record("one", one, 3), record("other", other, 1), *hosts])
    start.wait_until(known(2), "two instances")
    texts = [httpx.get(sidecar.url).text for _ in range(8)]
    assert (texts.count("one"), texts.count("other")) == (6, 2)
    server.kill()
    start.dnsmasq(port, [record("other", other, 1), *hosts])
    start.wait_until(known(1), "one instance again")
    assert httpx.get(sidecar.url).text == "other"
