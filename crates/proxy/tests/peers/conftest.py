"""Starts the sidecar and its peers: programs, each in a process of its own, that are gone when the test is over."""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

HERE = Path(__file__).parent
BINARY = os.environ["SERVICE_MESH"]
# For what must happen soon, on a machine that has other things to do.
PATIENCE = 30


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_until(holds, what):
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"{what}: not within {PATIENCE} s"
        time.sleep(0.01)


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Process:
    """A program that runs until the test is over."""

    def __init__(self, command, log, **options):
        self.log = log
        with log.open("wb") as output:
            # In a session of its own, so that its children are killed with it.
            options |= {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, "start_new_session": True}
            self.process = subprocess.Popen(command, **options)

    def told(self):
        return self.log.read_text(errors="replace")

    def signal(self, number):
        self.process.send_signal(number)

    def ended(self):
        return self.process.wait(PATIENCE)

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def is_there(self, port):
        def holds():
            assert self.process.poll() is None, self.told()
            return answers(port)

        wait_until(holds, f"{self.process.args[0]} at {port}")
        return self


class Sidecar(Process):
    """The binary, with a listener at `port` and its pages at `admin`."""

    def __init__(self, directory, policy):
        self.port, self.admin = free_port(), free_port()
        self.file = directory / f"mesh-{self.port}.toml"
        self.write(policy)
        super().__init__([BINARY, "run", str(self.file)], directory / f"sidecar-{self.port}.log")
        self.is_there(self.admin).is_there(self.port)
        self.url, self.pages = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.admin}"

    def write(self, policy):
        own = f"[listeners.web]\naddress = '127.0.0.1:{self.port}'\n[admin]\naddress = '127.0.0.1:{self.admin}'\n"
        # In one step: a file that is being written is an empty one for a moment, and that is a policy, too.
        fresh = self.file.with_suffix(".fresh")
        fresh.write_text(own + policy)
        fresh.replace(self.file)

    def page(self, path):
        return httpx.get(self.pages + path)

    def in_flight(self, count):
        return lambda: self.sum("service_mesh_connections", 'service="api"') == count

    def reload(self, policy):
        before = self.page("/snapshot").json()["policy"]["reloads_applied"]
        self.write(policy)
        self.signal(signal.SIGHUP)
        wait_until(lambda: self.page("/snapshot").json()["policy"]["reloads_applied"] > before, "the reload")

    def sum(self, name, label=""):
        """The sum of the series of this metric that have this among their labels."""
        lines = self.page("/metrics").text.splitlines()
        return sum(int(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{") and label in line)


def service(ports, more=""):
    """A service `api` with an instance at each of these ports."""
    listed = "".join(f"{{ id = 'p{port}', host = '127.0.0.1', port = {port} }}, " for port in ports)
    return f"[services.api]\ninstances = [{listed}]\nretry.initial_delay_seconds = 0\n{more}\n"


@pytest.fixture
def start(tmp_path):
    """Starts programs; they end with the test."""
    running = []

    class Start:
        service = staticmethod(service)
        free_port = staticmethod(free_port)
        wait_until = staticmethod(wait_until)

        def keep(self, process):
            running.append(process)
            return process

        def sidecar(self, policy):
            return self.keep(Sidecar(tmp_path, policy))

        def uvicorn(self, name="one", port=None, *options):
            port = port or free_port()
            command = [sys.executable, "-m", "uvicorn", "application:application", "--port", str(port), *options]
            environment = os.environ | {"NAME": name}
            log = tmp_path / f"uvicorn-{port}.log"
            process = self.keep(Process(command, log, cwd=HERE, env=environment)).is_there(port)
            process.port = port
            return process

        def nginx(self, name="one", port=None, more=""):
            port = port or free_port()
            directory = tmp_path / f"nginx-{port}"
            directory.mkdir(exist_ok=True)
            (directory / "root").mkdir(exist_ok=True)
            (directory / "nginx.conf").write_text(
                NGINX.format(directory=directory, port=port, name=name, more=more, user=getpass.getuser())
            )
            command = ["nginx", "-e", "stderr", "-p", str(directory), "-c", str(directory / "nginx.conf")]
            process = self.keep(Process(command, tmp_path / f"nginx-{port}.log")).is_there(port)
            process.port, process.root = port, directory / "root"
            return process

        def dnsmasq(self, port, records):
            command = [
                "dnsmasq",
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--pid-file=",
                "--user=",
                "--no-resolv",
            ]
            command += ["--no-hosts", "--listen-address=127.0.0.1", "--bind-interfaces", f"--port={port}", *records]
            return self.keep(Process(command, tmp_path / "dnsmasq.log")).is_there(port)

    yield Start()
    for process in running:
        process.kill()


NGINX = """
daemon off;
user {user};
worker_processes 1;
pid {directory}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    gzip_types text/plain;
    gzip_min_length 1;
    gzip_proxied any;
    default_type application/octet-stream;
    types {{ text/plain txt; }}
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_max_body_size 100m;
    {more}
    server {{
        listen 127.0.0.1:{port};
        root {directory}/root;
        location = / {{ return 200 "{name}"; }}
        location /busy {{ add_header Retry-After 0 always; return 503 "busy"; }}
        location /files/ {{ alias {directory}/root/; gzip on; }}
    }}
}}
"""


@pytest.fixture(scope="session", autouse=True)
def programs():
    for program in ("curl", "nginx", "dnsmasq"):
        assert shutil.which(program), f"{program} is missing; `make sidecar-peers` says how it is installed"
