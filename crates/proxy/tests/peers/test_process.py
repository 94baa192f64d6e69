"""The binary as an operator sees it: signals, reloads, the command line."""

import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import httpx
import pytest

BINARY = os.environ["SERVICE_MESH"]


def test_in_ten_seconds(start):
    one, port = start.nginx("one"), start.free_port()
    command = [BINARY, "run", "--listen", f"127.0.0.1:{port}", f"api=127.0.0.1:{one.port}"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=20)) as client:
            assert client.get(f"http://127.0.0.1:{port}/").text == "one"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()


def test_sigterm_finishes_what_is_in_flight_and_tells_those_who_stay(start):
    one = start.uvicorn()
    sidecar = start.sidecar(f"[drain]\ndelay_seconds = 1\ndeadline_seconds = 60\n{start.service([one.port])}")
    answers = []

    def slow():
        answers.append(httpx.get(f"{sidecar.url}/slow?3", timeout=60))

    threads = [threading.Thread(target=slow) for _ in range(4)]
    for thread in threads:
        thread.start()
    start.wait_until(sidecar.in_flight(4), "four calls")
    with httpx.Client(base_url=sidecar.url) as client:
        assert "connection" not in client.get("/").headers
        sidecar.signal(signal.SIGTERM)
        start.wait_until(lambda: sidecar.page("/ready").status_code == 503, "not ready")
        # Still at work, but whoever hears this goes elsewhere.
        assert client.get("/").headers["connection"] == "close"
    for thread in threads:
        thread.join()
    assert [(answer.status_code, answer.headers["connection"]) for answer in answers] == [(200, "close")] * 4
    assert sidecar.ended() == 0


def test_a_second_signal_waits_for_nobody(start):
    one = start.uvicorn()
    sidecar = start.sidecar(start.service([one.port]))

    def slow():
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{sidecar.url}/slow?20", timeout=60)

    thread = threading.Thread(target=slow)
    thread.start()
    start.wait_until(sidecar.in_flight(1), "a call")
    sidecar.signal(signal.SIGTERM)
    start.wait_until(lambda: sidecar.page("/ready").status_code == 503, "not ready")
    sidecar.signal(signal.SIGTERM)
    assert sidecar.ended() == 1
    thread.join()


def test_sighup_puts_a_file_in_force_and_refuses_a_bad_one(start):
    one, other = start.nginx("one"), start.nginx("other")
    sidecar = start.sidecar(start.service([one.port]))
    assert httpx.get(sidecar.url).text == "one"
    sidecar.reload(start.service([other.port]))
    assert httpx.get(sidecar.url).text == "other"
    sidecar.write("[services.api]\nstrategi = 'random'\n")
    sidecar.signal(signal.SIGHUP)
    start.wait_until(lambda: sidecar.page("/snapshot").json()["policy"]["refused"], "the refusal")
    assert httpx.get(sidecar.url).text == "other"
    assert "did you mean strategy" in sidecar.told()
    assert "service_mesh_policy_refused 1" in sidecar.page("/metrics").text


def test_a_file_is_checked_before_it_is_used(tmp_path):
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text("[services.api]\n")
    bad.write_text("[services.api]\nretry.max_retires = 3\n")
    assert subprocess.run([BINARY, "check", good], capture_output=True, check=True).stdout
    refused = subprocess.run([BINARY, "check", bad], capture_output=True, check=False)
    assert refused.returncode != 0
    assert b"bad.toml:2:7: services.api.retry.max_retires is unknown; did you mean max_retries?" in refused.stderr


def test_the_schema_is_the_one_that_is_published():
    told = json.loads(subprocess.run([BINARY, "schema"], capture_output=True, check=True).stdout)
    published = Path(__file__).parents[4] / "docs" / "policy.schema.json"
    assert told == json.loads(published.read_text())
