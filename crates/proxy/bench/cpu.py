"""CPU for each request that is proxied, beside nginx: `make bench-sidecar`.

One proxy at a time runs with one worker, pinned to core 0; wrk and three upstreams (an nginx with one worker) share core 1.
What a proxy costs is what the system says it has used, in user and in system mode, over the requests that wrk counts. The
runs are paired: each of ours is divided by that of nginx in the same pass, since what else the machine does moves both; the
median of these ratios is told, with the least and the greatest.
"""

import argparse
import contextlib
import getpass
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROXY, LOAD = "0", "1"
BAR = 1.2
UPSTREAMS = [18_101, 18_102, 18_103]
PORT = 18_100
TICKS = os.sysconf("SC_CLK_TCK")

CASES = {
    "13 bytes, 64 connections": ("/", 64),
    "13 bytes, 256 connections": ("/", 256),
    "64 KiB, 64 connections": ("/large", 64),
}

NGINX = """
daemon off; worker_processes 1; user {user}; pid {directory}/nginx.pid; error_log stderr error;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    keepalive_requests 1000000000;
    {rest}
}}
"""

UPSTREAM = """
    server {{
        {listen}
        root {directory};
        default_type application/json;
        location = / {{ return 200 '{{"ok": true }}'; }}
    }}
"""

BEFORE = """
    upstream api {{ {servers} keepalive 256; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
"""

MESH = """
[listeners.web]
address = "127.0.0.1:{port}"
[admin]
address = "127.0.0.1:18104"
[services.api]
instances = [{instances}]
timeouts.call_seconds = 10
timeouts.attempt_seconds = 5
[services.api.circuit_breaker.time_window]
failure_ratio = 0.5
"""


@contextlib.contextmanager
def running(command, port, core):
    """Runs a program on a core until the block ends, and gives its process id."""
    process = subprocess.Popen(
        ["taskset", "-c", core, *command], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        end = time.monotonic() + 10
        while not listens(port):
            if process.poll() is not None or time.monotonic() > end:
                sys.exit(f"{command[0]} does not listen at {port}")
            time.sleep(0.01)
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        while listens(port):
            time.sleep(0.01)


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def used(process):
    """Seconds of CPU of a process and its children, in user and in system mode."""
    user = system = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The session is the process' own, so that nobody else's children are counted.
            fields = stat.read_text().rsplit(") ", 1)[1].split()
            if int(fields[3]) == process:
                user, system = user + int(fields[11]), system + int(fields[12])
    return user / TICKS, system / TICKS


def wrk(path, connections, seconds):
    command = [
        "taskset",
        "-c",
        LOAD,
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        f"http://127.0.0.1:{PORT}{path}",
    ]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    requests = int(re.search(r"(\d+) requests in", told)[1])
    faults = re.findall(r"(?:connect|read|write|timeout|responses:) (\d+)", told)
    return requests, sum(map(int, faults))


def measure(command, path, connections, seconds):
    """Microseconds of CPU for a request, in user and in system mode, requests in a second, and faults.

    A fault is an answer with another status than 2xx, one that took longer than 2 seconds, or none.
    """
    with running(command, PORT, PROXY) as process:
        wrk(path, connections, 1)
        before = used(process)
        requests, faults = wrk(path, connections, seconds)
        user, system = (after - start for start, after in zip(before, used(process), strict=True))
    return user / requests * 1e6, system / requests * 1e6, requests / seconds, faults


def write(directory, name, rest):
    directory = directory / name
    directory.mkdir()
    file = directory / "nginx.conf"
    file.write_text(NGINX.format(directory=directory, user=getpass.getuser(), rest=rest.format(directory=directory)))
    return ["nginx", "-e", "stderr", "-p", str(directory), "-c", str(file)]


def commands(directory, binary):
    listen = " ".join(f"listen 127.0.0.1:{port} backlog=4096;" for port in UPSTREAMS)
    upstream = write(directory, "upstream", UPSTREAM.replace("{listen}", listen))
    (directory / "upstream" / "large").write_bytes(b"x" * 65_536)
    servers = " ".join(f"server 127.0.0.1:{port};" for port in UPSTREAMS)
    before = BEFORE.replace("{servers}", servers).replace("{port}", str(PORT))
    instances = ", ".join(f'{{ id = "{port}", host = "127.0.0.1", port = {port} }}' for port in UPSTREAMS)
    mesh = directory / "mesh.toml"
    mesh.write_text(MESH.format(port=PORT, instances=instances))
    ours = [binary, "run", "--threads", "1", str(mesh)]
    return upstream, {"nginx": write(directory, "before", before), "service-mesh": ours}


def version(*command):
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    return re.search(r"\d+\.\d+(\.\d+)?", told.stdout + told.stderr)[0]


def processor():
    with contextlib.suppress(OSError, TypeError):
        return re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    return "an unknown processor"


def report(figures, passes, seconds):
    yield (
        f"`make bench-sidecar` on {processor()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; nginx "
        f"{version('nginx', '-v')}, wrk {version('wrk', '-v')}; {passes} passes of {seconds} s. Microseconds of CPU, medians."
    )
    yield ""
    yield "| case | who | CPU a request | in user mode | requests a second | CPU beside nginx | bar |"
    yield "|---|---|--:|--:|--:|--:|--:|"
    for case, rows in figures.items():
        for who, runs in rows.items():
            cost = statistics.median(user + system for user, system, *_ in runs)
            user = statistics.median(user for user, *_ in runs)
            rate = statistics.median(rate for _, _, rate, _ in runs)
            beside = bar = ""
            if who != "nginx":
                ratios = [sum(one[:2]) / sum(other[:2]) for one, other in zip(runs, rows["nginx"], strict=True)]
                ratio = statistics.median(ratios)
                beside = f"x {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                if case == next(iter(figures)):
                    bar = f"{BAR:.2f}" + (" **misses its bar**" if ratio > BAR else "")
                elif ratio > 1:
                    bar = "**nginx is cheaper**"
            faults = sum(run[3] for run in runs)
            bar = " ".join([bar, f"**{faults} faults**"] if faults else [bar])
            yield f"| {case} | {who} | {cost:.1f} | {user:.1f} | {rate:,.0f} | {beside} | {bar} |"


def splice(page, table):
    begin, end = "<!-- sidecar:begin -->\n", "<!-- sidecar:end -->"
    before, rest = page.read_text().split(begin)
    page.write_text(f"{before}{begin}\n{table}\n\n{end}{rest.split(end)[1]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", help="service-mesh, built for release")
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--page", type=Path, help="the page whose table is written anew")
    arguments = parser.parse_args()
    if (os.cpu_count() or 1) < 2:
        sys.exit("two cores are needed: one for the proxy, one for the load")
    figures = {case: {"nginx": [], "service-mesh": []} for case in CASES}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        upstream, proxies = commands(directory, arguments.binary)
        with running(upstream, UPSTREAMS[0], LOAD):
            for number in range(arguments.passes):
                for case, (path, connections) in CASES.items():
                    # Who is first has the colder machine.
                    for who in sorted(proxies, reverse=number % 2 == 1):
                        run = measure(proxies[who], path, connections, arguments.seconds)
                        print(
                            f"{case}, {who}: {run[0] + run[1]:.1f} us, {run[2]:.0f} a second, {run[3]} faults",
                            file=sys.stderr,
                        )
                        figures[case][who].append(run)
    table = "\n".join(report(figures, arguments.passes, arguments.seconds))
    if arguments.page:
        splice(arguments.page, table)
    else:
        print(table)


if __name__ == "__main__":
    main()
