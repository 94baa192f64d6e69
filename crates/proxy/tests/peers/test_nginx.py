"""nginx as the service."""

import gzip
import signal
import threading

import httpx
import pytest


@pytest.fixture
def files(start):
    one = start.nginx()
    one.root.joinpath("big").write_bytes(bytes(range(256)) * 40_000)
    one.root.joinpath("text.txt").write_text("many words\n" * 1000)
    sidecar = start.sidecar(start.service([one.port]))
    with httpx.Client(base_url=sidecar.url) as client:
        yield client, one


def test_files_arrive_whole_in_parts_and_not_at_all(files):
    client, one = files
    whole = client.get("/files/big")
    assert whole.content == one.root.joinpath("big").read_bytes()
    part = client.get("/files/big", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    unchanged = client.get("/files/big", headers={"If-None-Match": whole.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    head = client.head("/files/big")
    assert (head.headers["content-length"], head.content) == (str(len(whole.content)), b"")
    assert client.get("/files/absent").status_code == 404


def test_what_is_compressed_stays_so(files):
    client, _ = files
    # To nginx whatever comes with `Via` is another proxy's: it compresses for that where `gzip_proxied` says so.
    with client.stream("GET", "/files/text.txt", headers={"Accept-Encoding": "gzip"}) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert gzip.decompress(b"".join(answer.iter_raw())) == b"many words\n" * 1000


def test_a_busy_one_is_tried_elsewhere_until_the_last_says_so(start):
    one, other = start.nginx("one"), start.nginx("other")
    sidecar = start.sidecar(start.service([one.port, other.port], "retry.max_retries = 1"))
    answer = httpx.get(f"{sidecar.url}/busy")
    assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (503, "busy", "0")
    assert sidecar.sum("service_mesh_retries_total") == 1


def under_load(sidecar, act):
    """Does something while three clients ask; returns how many answers there were, each of them with 200."""
    stop, counts, faults = threading.Event(), [], []

    def load():
        count = 0
        try:
            with httpx.Client(base_url=sidecar.url, timeout=60) as client:
                while not stop.is_set():
                    answer = client.get("/")
                    assert answer.status_code == 200, answer.text
                    count += 1
        except Exception as fault:
            faults.append(fault)
        counts.append(count)

    clients = [threading.Thread(target=load) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        act()
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert faults == []
    return sum(counts)


def test_connections_that_nginx_ends_are_not_noticed(start):
    """It closes each after ten requests, and all when it reloads, whether anybody is about to use them or not."""
    one = start.nginx(more="keepalive_requests 10;")
    sidecar = start.sidecar(start.service([one.port], "retry.max_retries = 0"))

    def reload():
        for _ in range(5):
            before = sidecar.sum("service_mesh_calls_total")
            one.signal(signal.SIGHUP)
            start.wait_until(lambda before=before: sidecar.sum("service_mesh_calls_total") > before + 50, "calls")

    answered = under_load(sidecar, reload)
    assert sidecar.sum("service_mesh_calls_total", 'outcome="success"') == answered
    # And nobody was to blame: there was one attempt for each.
    assert sidecar.sum("service_mesh_attempts_total") == answered


def test_health_checks_see_nginx_come_and_go(start):
    one, port = start.nginx("one"), start.free_port()
    check = "[services.api.health_check]\ninterval_seconds = 0.2\ntimeout_seconds = 0.2\nrise = 1\nfall = 1\n"
    sidecar = start.sidecar(start.service([one.port, port], check))

    def healthy(count):
        return lambda: sidecar.sum("service_mesh_instances", 'health="healthy"') == count

    start.wait_until(healthy(1), "one is ill")
    other = start.nginx("other", port)
    start.wait_until(healthy(2), "both are well")
    assert {httpx.get(sidecar.url).text for _ in range(4)} == {"one", "other"}
    other.kill()
    start.wait_until(healthy(1), "one is ill again")
