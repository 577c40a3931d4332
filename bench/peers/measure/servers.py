"""Starts and stops the servers that are compared, and reads what /proc says of them."""

import http.client
import os
import signal
import socket
import string
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 10

# Every server gets the same two processors, so that "one worker per core" is two workers
# everywhere. The load and the upstream get the others, where there are enough of them.
WORKERS = 2
ALL_PROCESSORS = sorted(os.sched_getaffinity(0))
SERVER_PROCESSORS = ALL_PROCESSORS[:WORKERS]
LOAD_PROCESSORS = ALL_PROCESSORS[WORKERS:] if len(ALL_PROCESSORS) >= 4 else ALL_PROCESSORS

class CannotStart(Exception):
    """A server that does not answer, or ended by itself; the message says why."""


def free_ports(count):
    """Ports below the kernel's ephemeral range, which no outgoing connection can take."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = []
    for port in range(max(1024, low - 10_000), low):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
        if len(ports) == count:
            return ports
    raise CannotStart(f"no {count} free ports below {low}")


def answers_200(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Server:
    """One program under measurement. `ready` is the (port, path) that answers 200 once it is."""

    def __init__(self, name, command, place, version, ready=None, environment=None,
                 processors=SERVER_PROCESSORS):
        self.name = name
        self.command = command
        self.port = place.port
        self.version = version
        self.ready = ready or (place.port, "/")
        self.log = place.dir / f"{name}.out"
        self.environment = environment or {}
        self.processors = processors
        self.process = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/api/items"

    def start(self):
        """Starts it and returns how many seconds passed until it was ready."""
        begin = time.monotonic()
        with self.log.open("ab") as log:
            try:
                self.process = subprocess.Popen(
                    self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    env={**os.environ, **self.environment},
                    preexec_fn=lambda: os.sched_setaffinity(0, self.processors))
            except OSError as error:
                raise CannotStart(f"{self.name}: {error}") from error
        while not answers_200(*self.ready):
            if self.process.poll() is not None:
                raise CannotStart(f"{self.name} ended with {self.process.returncode}: {self.said()}")
            if time.monotonic() - begin > START_TIMEOUT_S:
                raise CannotStart(f"{self.name} not ready in {START_TIMEOUT_S} s: {self.said()}")
            time.sleep(0.001)
        return time.monotonic() - begin

    def said(self):
        return self.log.read_text(errors="replace")[-2000:].strip() or "(it printed nothing)"

    def stop(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            pids = self.pids()
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                for pid in pids:
                    kill(pid)
                self.process.wait()
        self.process = None

    def pids(self):
        """The process and all that descend from it (nginx's workers)."""
        found, unseen = [], [self.process.pid]
        while unseen:
            pid = unseen.pop()
            found.append(pid)
            try:
                for children in Path(f"/proc/{pid}/task").glob("*/children"):
                    unseen += map(int, children.read_text().split())
            except OSError:
                continue
        return found

    def cpu_seconds(self):
        """User and system time of all its processes. Fails if one has ended: its time is lost."""
        if self.process.poll() is not None:
            raise CannotStart(f"{self.name} ended while it was measured: {self.said()}")
        ticks = 0
        for pid in self.pids():
            # The name, in parentheses, may hold spaces; utime and stime are fields 14 and 15.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS_PER_SECOND

    def rss_bytes(self):
        """VmRSS of all its processes, what they share counted once for each."""
        total = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * 1024
        return total


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def first_line_of(*command):
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CannotStart(f"{command[0]}: {error}") from error
    return next(iter((result.stdout + result.stderr).splitlines()), "unknown").strip()


@dataclass(frozen=True)
class Place:
    """Where a server lives: what its config's placeholders stand for."""

    conf: Path
    dir: Path
    port: int
    console_port: int
    upstream_port: int
    body: str

    def render(self, template):
        """Writes the config file and returns its path."""
        own = self.conf / template
        shared = HERE / "conf" / template
        source = string.Template((own if own.exists() else shared).read_text())
        target = self.dir / template
        target.write_text(source.substitute(vars(self)))
        return str(target)


def make_upstream(place):
    return Server("upstream", ["nginx", "-e", f"{place.dir}/upstream.log", "-c",
                               place.render("upstream.conf")],
                  place, first_line_of("nginx", "-v"), processors=LOAD_PROCESSORS)


def make_nginx(place, _):
    return Server("nginx", ["nginx", "-e", f"{place.dir}/nginx.log", "-c",
                            place.render("nginx.conf")],
                  place, first_line_of("nginx", "-v"))


def make_seaworthy(place, binary, name="seaworthy"):
    return Server(name, [str(binary), "serve", "--config", place.render(f"{name}.toml")],
                  place, first_line_of(str(binary), "--version"),
                  ready=(place.console_port, "/readyz"))


def build_seaworthy():
    """Builds the release binary and returns its path."""
    command = ["cargo", "build", "--release", "--package", "seaworthy", "--bin", "seaworthy"]
    try:
        built = subprocess.run(command, cwd=REPOSITORY, check=False).returncode == 0
    except OSError as error:
        raise CannotStart(f"cargo: {error}") from error
    if not built:
        raise CannotStart("seaworthy does not build")
    target = os.environ.get("CARGO_TARGET_DIR", "target")
    return REPOSITORY / target / "release" / "seaworthy"


def install_packages(names):
    """Debian's packages for the load, the upstream and the peers."""
    command = [str(REPOSITORY / "scripts" / "packages.sh"), *sorted({"wrk", "nginx", *names})]
    if subprocess.run(command, check=False).returncode != 0:
        raise CannotStart("a package is missing")


class Run:
    """The servers of one run. Leaving it ends all of them, however it is left."""

    def __init__(self, folder, conf, body, makers, binary):
        ports = iter(free_ports(1 + 2 * len(makers)))
        upstream_port = next(ports)
        self.upstream = make_upstream(
            Place(conf, folder, upstream_port, upstream_port, upstream_port, body))
        self.places = {name: Place(conf, folder, next(ports), next(ports), upstream_port, body)
                       for name in makers}
        self.peers = {name: makers[name](place, binary) for name, place in self.places.items()}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in [*self.peers.values(), self.upstream]:
            server.stop()
