"""curl as the client."""

import hashlib
import json
import subprocess

import pytest


def curl(*arguments, **options):
    command = ["curl", "--silent", "--show-error", "--max-time", "30", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=True, **options).stdout


@pytest.fixture
def echo(start):
    """A sidecar before uvicorn, at three addresses."""
    one = start.uvicorn()
    port = start.free_port()
    sidecar = start.sidecar(f"{start.service([one.port])}\n[listeners.six]\naddress = '[::1]:{port}'\n")
    sidecar.six = f"http://[::1]:{port}"
    return sidecar


def test_what_is_asked_arrives(echo):
    told = json.loads(curl("-H", "X-Own: 1", "-H", "Connection: x-own", f"{echo.url}/a/b?c=d"))
    assert (told["method"], told["path"], told["version"]) == ("GET", "/a/b", "1.1")
    assert "x-own" not in told["fields"]
    assert told["fields"]["x-forwarded-for"] == "127.0.0.1"
    assert told["fields"]["host"] == f"127.0.0.1:{echo.port}"


def test_two_requests_go_by_one_connection(echo):
    connects = curl("-w", "%{num_connects} ", "-o", "/dev/null", f"{echo.url}/", "-o", "/dev/null", f"{echo.url}/")
    assert connects == b"1 0 "


@pytest.mark.parametrize("framing", [[], ["-H", "Transfer-Encoding: chunked"]])
@pytest.mark.parametrize("expect", ["Expect: 100-continue", "Expect:"])
def test_a_body_arrives_as_it_was_sent(echo, tmp_path, framing, expect):
    body = bytes(range(256)) * 12_000
    tmp_path.joinpath("body").write_bytes(body)
    told = json.loads(curl("-T", tmp_path / "body", *framing, "-H", expect, f"{echo.url}/"))
    assert (told["method"], told["bytes"], told["sha256"]) == ("PUT", len(body), hashlib.sha256(body).hexdigest())
    assert "expect" not in told["fields"]


def test_a_head_has_no_body(echo):
    head = curl("--head", f"{echo.url}/").decode()
    assert head.startswith("HTTP/1.1 200 ")


def test_http_1_0_is_answered_and_closed(echo):
    told = curl("--http1.0", "-i", f"{echo.url}/").decode()
    assert json.loads(told.split("\r\n\r\n", 1)[1])["version"] == "1.1"
    assert "transfer-encoding" not in told.split("\r\n\r\n")[0].lower()


def test_ipv6_is_listened_on(echo):
    assert json.loads(curl("-g", f"{echo.six}/"))["fields"]["x-forwarded-for"] == "::1"


def test_unix_sockets_on_both_sides(start, tmp_path):
    inner, outer = tmp_path / "inner.sock", tmp_path / "outer.sock"
    one = start.uvicorn("one", None)
    # The inner one speaks to uvicorn by TCP, the outer one to the inner one by its socket.
    first = f"{start.service([one.port])}\n[listeners.inner]\naddress = 'unix:{inner}'\n"
    start.sidecar(first)
    second = f"[services.api]\ninstances = [{{ id = 'inner', host = 'unix:{inner}', port = 1 }}]\n"
    start.sidecar(f"{second}[listeners.outer]\naddress = 'unix:{outer}'\n")
    told = json.loads(curl("--unix-socket", outer, "http://shop.example/"))
    assert told["fields"]["host"] == "shop.example"
    assert told["fields"]["via"].count("service-mesh") == 2


def test_a_refusal_says_why(start):
    sidecar = start.sidecar(
        start.service([start.free_port()], "retry = false").replace("retry.initial_delay_seconds = 0\n", "")
    )
    told = curl("-i", f"{sidecar.url}/").decode()
    head, body = told.split("\r\n\r\n", 1)
    assert head.startswith("HTTP/1.1 502 ") and "x-service-mesh-refused: connect_failed" in head
    assert json.loads(body)["refused"] == "connect_failed"


def test_an_upload_beyond_the_limit_is_never_made(start, tmp_path):
    tmp_path.joinpath("body").write_bytes(b"x" * 1_000_000)
    one = start.uvicorn()
    sidecar = start.sidecar(start.service([one.port], "limits.body_bytes = 1000"))
    wait = ["-H", "Expect: 100-continue", "--expect100-timeout", "20"]
    told = ["-o", "/dev/null", "-w", "%{http_code} %{size_upload}"]
    sent = curl("-T", tmp_path / "body", *wait, *told, f"{sidecar.url}/")
    assert sent == b"413 0"
