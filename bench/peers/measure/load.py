"""The load on a server: full speed, half speed, many idle connections."""

import json
import os
import resource
import selectors
import socket
import subprocess
import time

from servers import LOAD_PROCESSORS, CannotStart

# After a run, work that a server put off (flushing telemetry, say) is still its cost.
SETTLE_S = 1.0
# Beyond this share of failed requests a run says nothing about a proxy's cost.
FAILED_SHARE_MAX = 0.0001

IDLE_CONNECTING_MAX = 256
IDLE_ANSWER_TIMEOUT_S = 60
# One source address has some 28,000 ports, of which many may still wait out an old connection.
IDLE_SOURCES = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]
IP_BIND_ADDRESS_NO_PORT = 24


def wrk(url, method, duration_s, options, think_ms=0.0):
    """One wrk run, as the figures of the last line that the script prints."""
    command = ["wrk", f"-t{options.threads}", f"-c{options.connections}",
               f"-d{max(1, round(duration_s))}s", "--latency", "-s", str(options.script), url,
               "--", method, f"{think_ms:.3f}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False,
                            preexec_fn=lambda: os.sched_setaffinity(0, LOAD_PROCESSORS))
    if result.returncode != 0:
        raise CannotStart(f"wrk: {(result.stderr or result.stdout).strip()}")
    figures = json.loads(result.stdout.splitlines()[-1])
    figures["rps"] = figures["requests"] / (figures["duration_us"] / 1e6)
    failed = figures["bad_status"] + figures["socket_errors"]
    figures["failed"] = failed
    figures["valid"] = is_valid(figures["requests"], failed)
    return figures


def is_valid(requests, failed):
    return requests > 0 and failed <= requests * FAILED_SHARE_MAX


def full_load(server, method, options):
    """Closed loop, as fast as it goes, with the CPU time that the server took for it."""
    before = server.cpu_seconds()
    figures = wrk(server.url, method, options.duration, options)
    time.sleep(SETTLE_S)
    spent = server.cpu_seconds() - before
    figures["cpu_us_per_request"] = spent * 1e6 / max(1, figures["requests"])
    return figures


def half_load(server, upstream, full_rps, options):
    """The latency that the server adds to the upstream's own, both at the same offered rate."""
    rate = full_rps / 2
    direct = paced(upstream.url, rate, options)
    through = paced(server.url, rate, options)
    return {
        "rate_wanted": rate, "rate_direct": direct["rps"], "rate_through": through["rps"],
        "valid": direct["valid"] and through["valid"],
        "added_p50_us": through["p50_us"] - direct["p50_us"],
        "added_p99_us": through["p99_us"] - direct["p99_us"],
        "direct": direct, "through": through,
    }


def paced(url, rate, options):
    """A GET run at about that rate.

    The think time is found in short runs: the average cycle of a connection must last
    connections / rate, and what a cycle takes beyond its think time is measured.
    """
    cycle_ms = options.connections / rate * 1e3
    think_ms = cycle_ms
    for _ in range(2):
        trial = wrk(url, "GET", 1, options, think_ms)
        think_ms += cycle_ms - options.connections / max(1.0, trial["rps"]) * 1e3
        think_ms = max(0.1, think_ms)
    return {"think_ms": think_ms, **wrk(url, "GET", options.duration, options, think_ms)}


def idle_connections(server, wanted):
    """Opens keep-alive connections, sends one request on each, and reads the memory they hold."""
    before = server.rss_bytes()
    # A few descriptors are this script's own.
    wanted_here = min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 64)
    crowd = Crowd(server.port)
    try:
        crowd.open(wanted_here)
        time.sleep(SETTLE_S)
        crowd.drop_closed()
        held = len(crowd.answered)
        return {"wanted": wanted, "held": held, "rss_bytes": server.rss_bytes(),
                "rss_bytes_before": before}
    finally:
        crowd.close()


class Crowd:
    """Clients that ask once and then stay connected. At most some of them connect at a time."""

    def __init__(self, port):
        self.port = port
        self.request = (f"GET /api/items HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                        "Accept: application/json\r\n\r\n").encode()
        self.selector = selectors.DefaultSelector()
        self.answered = set()
        self.busy = {}

    def open(self, count):
        deadline = time.monotonic() + IDLE_ANSWER_TIMEOUT_S
        opened = 0
        while (opened < count or self.busy) and time.monotonic() < deadline:
            while opened < count and len(self.busy) < IDLE_CONNECTING_MAX:
                self.connect(IDLE_SOURCES[opened % len(IDLE_SOURCES)])
                opened += 1
            for key, events in self.selector.select(timeout=1):
                self.advance(key.fileobj, events)

    def connect(self, source):
        client = socket.socket()
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        client.bind((source, 0))
        client.connect_ex(("127.0.0.1", self.port))
        self.busy[client] = b""
        self.selector.register(client, selectors.EVENT_WRITE)

    def advance(self, client, events):
        try:
            if events & selectors.EVENT_WRITE:
                client.sendall(self.request)
                self.selector.modify(client, selectors.EVENT_READ)
                return
            received = client.recv(65536)
        except OSError:
            received = b""
        self.busy[client] += received
        if not received:
            self.forget(client)
        elif is_complete_200(self.busy[client]):
            self.selector.unregister(client)
            del self.busy[client]
            self.answered.add(client)

    def forget(self, client):
        self.selector.unregister(client)
        self.busy.pop(client, None)
        client.close()

    def drop_closed(self):
        """Forgets the clients whose connection the server has closed since its answer."""
        for client in list(self.answered):
            try:
                closed = client.recv(1) == b""
            except BlockingIOError:
                closed = False
            except OSError:
                closed = True
            if closed:
                self.answered.discard(client)
                client.close()

    def close(self):
        for client in [*self.busy, *self.answered]:
            client.close()
        self.selector.close()


def is_complete_200(received):
    head, end, body = received.partition(b"\r\n\r\n")
    if not end or b" 200 " not in head.split(b"\r\n")[0]:
        return False
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return len(body) >= int(value)
    return body.endswith(b"0\r\n\r\n")


def soak(server, wanted, options, progress):
    """Runs that many requests and returns the memory at each tenth."""
    done, failed, tenths = 0, 0, []
    while done < wanted:
        figures = wrk(server.url, "GET", 2 if wanted < 2_000_000 else 5, options)
        if figures["requests"] == 0:
            raise CannotStart(f"{server.name} answered nothing during the soak")
        done += figures["requests"]
        failed += figures["failed"]
        while len(tenths) < 10 and done >= wanted * (len(tenths) + 1) / 10:
            tenths.append({"requests": done, "rss_bytes": server.rss_bytes()})
            progress(f"{server.name}: {done:,} requests, {tenths[-1]['rss_bytes'] / 1e6:.1f} MB")
    return {"wanted": wanted, "requests": done, "failed": failed, "tenths": tenths,
            "valid": is_valid(done, failed)}
