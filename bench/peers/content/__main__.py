"""Measures what reading requests costs, beside nginx as a bare proxy and nginx with ModSecurity.

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

import figures
import load
import servers
from command import Parser, duration, machine, main, progress, whole

HERE = Path(__file__).resolve().parent

EXAMPLES = """\
examples:
  content.sh                                          everything, some four minutes
  content.sh --rounds 1 --duration 2s                 a quick look
  content.sh --peers nginx,seaworthy --seaworthy target/dev-release/seaworthy
"""

# The requests that are sent: see wrk.lua.
KINDS = ["canonical", "aliases"]

# The chain with all of them may cost as much, of nginx as a bare proxy.
RATIO_MAX = 1.6


def make_modsecurity(place, _):
    place.render("modsecurity-rules.conf")
    return servers.Server("modsecurity", ["nginx", "-e", f"{place.dir}/modsecurity.log", "-c",
                                          place.render("modsecurity.conf")],
                          place, f"{servers.first_line_of('nginx', '-v')}, {rules_version()}")


def rules_version():
    return servers.first_line_of("dpkg-query", "--show", "--showformat",
                                 "${Package} ${Version}", "modsecurity-crs")


def make_heads(place, binary):
    return servers.make_seaworthy(place, binary, "seaworthy-heads")


MAKERS = {"nginx": servers.make_nginx, "modsecurity": make_modsecurity,
          "seaworthy-heads": make_heads, "seaworthy": servers.make_seaworthy}

PACKAGES = {"modsecurity": ["libnginx-mod-http-modsecurity", "modsecurity-crs"]}


def names(text):
    chosen = list(dict.fromkeys(filter(None, text.split(","))))
    unknown = [name for name in chosen if name not in MAKERS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"unknown: {', '.join(unknown)}; there are {', '.join(MAKERS)}")
    return chosen


def parse_options(arguments):
    parser = Parser(prog="content.sh", description=__doc__, epilog=EXAMPLES,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--peers", type=names, default=list(MAKERS), metavar="NAMES",
        help=f"which servers, in this order (default: {','.join(MAKERS)})")
    add("--rounds", type=whole(1), default=3, metavar="N", help="interleaved rounds (default: 3)")
    add("--duration", type=duration, default=5, metavar="SECONDS",
        help="of each wrk run (default: 5s)")
    add("--connections", type=whole(1), default=64, metavar="N",
        help="of the load (default: 64)")
    add("--threads", type=whole(1), default=2, metavar="N", help="of wrk (default: 2)")
    add("--seaworthy", type=Path, metavar="PATH",
        help="the binary to measure (default: builds target/release/seaworthy)")
    add("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    add("--keep", action="store_true", help="keep the temporary folder: configs and logs")
    options = parser.parse_args(arguments)
    options.script = HERE / "wrk.lua"
    return options


def measure(run, options):
    """One entry a round, server and kind of request."""
    run.upstream.start()
    for name, server in run.peers.items():
        progress(f"{name}: starting")
        server.start()
    for server in run.peers.values():
        for kind in KINDS:
            load.wrk(server.url, kind, 1, options)
    measured = []
    for number in range(1, options.rounds + 1):
        for kind in KINDS:
            for name, server in run.peers.items():
                progress(f"round {number} of {options.rounds}: {kind} {name}")
                measured.append({"round": number, "method": kind, "server": name,
                                 **load.full_load(server, kind, options)})
    return measured


def targets(results):
    medians = figures.full_load_medians(results["full_load"])
    rows = []
    for kind in KINDS:
        value = figures.cpu_ratio(medians, kind, figures.SUBJECT, "nginx")
        text = "one of the two is missing or had failures" if value is None else f"{value:.2f}×"
        rows.append(figures.judged(f"the whole chain against nginx as a bare proxy, {kind}",
                                   f"≤ {RATIO_MAX:.2f}×", value,
                                   value is not None and value <= RATIO_MAX, text))
    return rows


METHOD_NOTE = """\
How it was measured. wrk, closed loop, {connections} keep-alive connections, rounds: {rounds}, interleaved,
of {duration} s each; medians. Each request is a JSON POST of 270 bytes with an API key and a tenant:
`canonical` is right as it is, of `aliases` three values are rewritten before the service gets them.
CPU is user + system time of all the server's processes from /proc, until a second after the load
ended, nothing subtracted. `seaworthy-heads` has the protections that look at heads alone;
`seaworthy` has all: `access`, `body_syntax`, `injection`, `vocabulary` and `request_schema`, too,
all enforcing. ModSecurity blocks with Debian's Core Rule Set at its first paranoia level and
writes no audit log. A run with more than 0.01 % failed requests is INVALID and judges nothing."""


def run(options):
    packages = [package for name in options.peers for package in PACKAGES.get(name, [])]
    servers.install_packages(packages)
    binary = options.seaworthy
    if binary is None:
        binary = servers.build_seaworthy()
    folder = Path(tempfile.mkdtemp(prefix="seaworthy-content-"))
    results = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "options": {"rounds": options.rounds, "duration": options.duration,
                    "connections": options.connections, "threads": options.threads},
    }
    makers = {name: MAKERS[name] for name in options.peers}
    try:
        with servers.Run(folder, HERE / "conf", "{}", makers, binary) as started:
            results["versions"] = {name: server.version for name, server in started.peers.items()}
            results["full_load"] = measure(started, options)
    finally:
        if options.keep:
            progress(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print("\n\n".join([
        figures.heading(results), figures.full_load_table(results),
        figures.targets_table(targets(results)), METHOD_NOTE.format(**results["options"])]))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


options = parse_options(sys.argv[1:])
sys.exit(main("content.sh", lambda: run(options)))
