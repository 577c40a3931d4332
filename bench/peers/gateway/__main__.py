"""Measures Seaworthy beside nginx, HAProxy and Caddy and prints what each costs.

A report, not a gate: it exits 0 whenever it measured, misses included, and 69 when a server
could not start.
"""

import argparse
import datetime
import json
import shutil
import sys
import tempfile
from pathlib import Path

import load
import peers
import report
import servers
from command import Parser, duration, machine, main, progress, whole

HERE = Path(__file__).resolve().parent

EXAMPLES = """\
examples:
  gateway.sh                                        everything, some fifteen minutes
  gateway.sh --rounds 1 --duration 2s --idle 1000   a quick look
  gateway.sh --peers nginx,seaworthy --seaworthy target/dev-release/seaworthy
  gateway.sh --peers seaworthy --soak 10000000      the memory target
"""


def names(text):
    chosen = list(dict.fromkeys(filter(None, text.split(","))))
    unknown = [name for name in chosen if name not in peers.MAKERS]
    if unknown:
        known = ", ".join(peers.MAKERS)
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {known}")
    return chosen


def parse_options(arguments):
    parser = Parser(prog="gateway.sh", description=__doc__, epilog=EXAMPLES,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--peers", type=names, default=list(peers.MAKERS), metavar="NAMES",
        help="which servers, in this order (default: nginx,haproxy,caddy,seaworthy)")
    add("--rounds", type=whole(1), default=3, metavar="N", help="interleaved rounds (default: 3)")
    add("--duration", type=duration, default=10, metavar="SECONDS",
        help="of each wrk run (default: 10s)")
    add("--connections", type=whole(1), default=64, metavar="N",
        help="of the load (default: 64)")
    add("--threads", type=whole(1), default=2, metavar="N", help="of wrk (default: 2)")
    add("--no-half-load", dest="half_load", action="store_false",
        help="leave out the added latency")
    add("--idle", type=whole(0), default=10_000, metavar="N",
        help="idle connections; 0 leaves them out (default: 10000)")
    add("--starts", type=whole(1), default=5, metavar="N",
        help="starts to take the time of (default: 5)")
    add("--soak", type=whole(0), default=500_000, metavar="N",
        help="requests of the memory run; 10000000 for the verdict, 0 leaves it out "
             "(default: 500000)")
    add("--soak-peers", type=names, default=[report.SUBJECT], metavar="NAMES",
        help="which servers do the memory run (default: seaworthy)")
    add("--seaworthy", type=Path, metavar="PATH",
        help="the binary to measure (default: builds target/release/seaworthy)")
    add("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    add("--keep", action="store_true", help="keep the temporary folder: configs and logs")
    options = parser.parse_args(arguments)
    options.script = HERE / "wrk.lua"
    return options


class GatewayRun(servers.Run):
    """What is measured of the servers of one run."""

    def __init__(self, options, folder, binary):
        makers = {name: peers.MAKERS[name] for name in options.peers}
        super().__init__(folder, HERE / "conf", peers.BODY, makers, binary)
        self.options = options

    def start_fresh(self, server):
        """Starts it with an empty data directory; seconds until it was ready."""
        server.stop()
        shutil.rmtree(self.places[server.name].dir / f"{server.name}-data", ignore_errors=True)
        return server.start()

    def measure(self):
        results = {"ready_s": {}, "full_load": [], "half_load": [], "idle": {}, "soak": {}}
        self.upstream.start()
        for name, server in self.peers.items():
            progress(f"{name}: starting {self.options.starts} times")
            results["ready_s"][name] = [self.start_fresh(server)
                                        for _ in range(self.options.starts)]
        self.warm_up()
        for number in range(1, self.options.rounds + 1):
            self.measure_round(number, results)
        for name, server in self.peers.items():
            if self.options.soak and name in self.options.soak_peers:
                results["soak"][name] = load.soak(server, self.options.soak, self.options, progress)
            server.stop()
        if self.options.idle:
            for name, server in self.peers.items():
                progress(f"{name}: {self.options.idle:,} idle connections")
                self.start_fresh(server)
                results["idle"][name] = load.idle_connections(server, self.options.idle)
                server.stop()
        return results

    def warm_up(self):
        for server in [self.upstream, *self.peers.values()]:
            for method in report.METHODS:
                load.wrk(server.url, method, 1, self.options)

    def measure_round(self, number, results):
        for method in report.METHODS:
            for server in [self.upstream, *self.peers.values()]:
                progress(f"round {number} of {self.options.rounds}: {method} {server.name}")
                figures = load.full_load(server, method, self.options)
                name = "direct" if server is self.upstream else server.name
                if server is self.upstream:
                    # Its cost is not a proxy's: no one should read a ratio from it.
                    del figures["cpu_us_per_request"]
                results["full_load"].append(
                    {"round": number, "method": method, "server": name, **figures})
        if not self.options.half_load:
            return
        full_rps = {run["server"]: run["rps"] for run in results["full_load"]
                    if run["round"] == number and run["method"] == "GET"}
        for name, server in self.peers.items():
            progress(f"round {number} of {self.options.rounds}: half load {name}")
            results["half_load"].append(
                {"round": number, "server": name,
                 **load.half_load(server, self.upstream, full_rps[name], self.options)})


def run(options):
    servers.install_packages(filter(None, map(peers.PACKAGES.get, options.peers)))
    binary = options.seaworthy
    if report.SUBJECT in options.peers and binary is None:
        binary = servers.build_seaworthy()
    described = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "options": {"rounds": options.rounds, "duration": options.duration,
                    "connections": options.connections, "threads": options.threads,
                    "starts": options.starts},
    }
    folder = Path(tempfile.mkdtemp(prefix="seaworthy-peers-"))
    try:
        with GatewayRun(options, folder, binary) as servers_run:
            described["versions"] = {name: server.version
                                     for name, server in servers_run.peers.items()}
            results = {**described, **servers_run.measure()}
    finally:
        if options.keep:
            progress(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    results["targets"] = report.targets(results)
    print(report.render(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


options = parse_options(sys.argv[1:])
sys.exit(main("gateway.sh", lambda: run(options)))
