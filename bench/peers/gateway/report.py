"""Medians, ratios, targets and the tables. Pure: measurements in, values and text out."""

from statistics import median

from figures import (MET, NOT_MEASURED, NOT_MET, SUBJECT, cpu_ratio, full_load_medians,
                     full_load_table, heading, judged, megabytes, table, targets_table)

METHODS = ["GET", "POST"]
SOAK_FULL = 10_000_000



def half_load_medians(runs):
    groups = {}
    for run in runs:
        groups.setdefault(run["server"], []).append(run)
    return {
        server: {
            "valid": all(run["valid"] for run in group),
            **{figure: median(run[figure] for run in group)
               for figure in ["rate_wanted", "rate_direct", "rate_through", "added_p50_us",
                              "added_p99_us"]},
            "direct_p99_us": median(run["direct"]["p99_us"] for run in group),
            "through_p99_us": median(run["through"]["p99_us"] for run in group),
        }
        for server, group in groups.items()
    }


def soak_growth_bytes(soak):
    """How much higher the memory was at its highest in the second half than in the first."""
    sizes = [tenth["rss_bytes"] for tenth in soak["tenths"]]
    return max(sizes[5:]) - max(sizes[:5])


def soak_growth_allowed(soak):
    """2 %, or 1 MiB where that is more: a leak of a byte every five requests shows."""
    return max(1 << 20, 0.02 * max(tenth["rss_bytes"] for tenth in soak["tenths"][:5]))


def targets(results):
    """Each target with its verdict. What was not measured says so and why."""
    medians = full_load_medians(results["full_load"])
    rows = []

    def ratio(method, numerator, denominator, limit, at_most, name):
        value = cpu_ratio(medians, method, numerator, denominator)
        is_met = value is not None and (value <= limit if at_most else value >= limit)
        text = f"{value:.2f}×" if value is not None else "one of the two is missing or had failures"
        rows.append(judged(f"{name}, {method}", f"{'≤' if at_most else '≥'} {limit:.2f}×", value,
                           is_met, text))

    for method in METHODS:
        ratio(method, SUBJECT, "nginx", 1.25, True, "CPU per request against nginx")
        ratio(method, SUBJECT, "nginx", 1.0, True, "the goal behind it")
        ratio(method, SUBJECT, "haproxy", 1.0, True, "CPU per request against HAProxy")
        ratio(method, "caddy", SUBJECT, 4.0, False, "Caddy's CPU per request against it")

    half = half_load_medians(results["half_load"]).get(SUBJECT)
    added = half["added_p99_us"] / 1e3 if half and half["valid"] else None
    rows.append(judged("added latency p99 at half load", "< 1 ms", added,
                       added is not None and added < 1,
                       f"{added:.2f} ms" if added is not None else "no run without failures"))

    idle = results["idle"].get(SUBJECT)
    enough = idle is not None and idle["wanted"] >= 10_000 and idle["held"] >= 10_000
    rows.append(judged("10,000 idle connections, RSS", "≤ 150 MB",
                       idle["rss_bytes"] if enough else None,
                       enough and idle["rss_bytes"] <= 150e6, idle_text(idle)))

    soak = results["soak"].get(SUBJECT)
    whole = soak is not None and soak["requests"] >= SOAK_FULL and soak["valid"]
    growth = soak_growth_bytes(soak) if soak else None
    rows.append(judged("memory flat over 10 million requests", "≤ 2 % or 1 MiB between halves",
                       growth if whole else None,
                       whole and growth <= soak_growth_allowed(soak), soak_text(soak)))

    ready = results["ready_s"].get(SUBJECT)
    ready_ms = median(ready) * 1e3 if ready else None
    rows.append(judged("ready after start", "≤ 150 ms", ready_ms,
                       ready_ms is not None and ready_ms <= 150,
                       f"{ready_ms:.0f} ms" if ready else "not started"))
    return rows


def idle_text(idle):
    if idle is None:
        return "no run"
    return f"{megabytes(idle['rss_bytes'])} with {idle['held']:,} of {idle['wanted']:,} held"


def soak_text(soak):
    if soak is None:
        return f"no run; --soak {SOAK_FULL}"
    growth = soak_growth_bytes(soak) / 1e6
    hint = "" if soak["requests"] >= SOAK_FULL else f"; --soak {SOAK_FULL} for the verdict"
    if not soak["valid"]:
        hint = f"; {soak['failed']:,} of them failed"
    return f"{growth:+.1f} MB between the halves of {soak['requests']:,} requests{hint}"


def half_load_table(results):
    rows = [
        [server, f"{run['rate_wanted']:,.0f}", f"{run['rate_direct']:,.0f}",
         f"{run['rate_through']:,.0f}", f"{run['direct_p99_us'] / 1e3:.2f}",
         f"{run['through_p99_us'] / 1e3:.2f}", f"{run['added_p50_us'] / 1e3:.2f}",
         f"{run['added_p99_us'] / 1e3:.2f}" + ("" if run["valid"] else " INVALID")]
        for server, run in half_load_medians(results["half_load"]).items()
    ]
    return table(["half load, GET", "wanted/s", "direct/s", "through/s", "p99 direct ms",
                  "p99 through ms", "added p50 ms", "added p99 ms"], rows)


def resources_table(results):
    rows = []
    for server in results["ready_s"]:
        idle, ready = results["idle"].get(server), results["ready_s"][server]
        rows.append([
            server, f"{median(ready) * 1e3:.0f}",
            megabytes(idle["rss_bytes_before"]) if idle else "–",
            megabytes(idle["rss_bytes"]) if idle else "–",
            f"{idle['held']:,}" if idle else "–",
        ])
    return table(["start and memory", "ready ms", "RSS fresh", "RSS idle", "idle connections"], rows)


def soak_table(results):
    rows = [
        [server, f"{soak['requests']:,}", f"{soak['failed']:,}",
         *[f"{tenth['rss_bytes'] / 1e6:.1f}" for tenth in soak["tenths"]]]
        for server, soak in results["soak"].items()
    ]
    return table(["soak, RSS in MB", "requests", "failed", *[f"{n}/10" for n in range(1, 11)]], rows)


METHOD_NOTE = """\
How it was measured. Full load: wrk, closed loop, {connections} keep-alive connections, rounds: {rounds},
interleaved, of {duration} s each; medians. CPU is user + system time of all the server's processes
from /proc, until a second after the load ended, nothing subtracted. The load and the upstream
share the machine, and on fewer than four processors they share the servers' two. A run with more
than 0.01 % failed requests is INVALID and judges nothing. Half load: the same wrk, whose
connections pause before each request for a random time, set so that half of that server's own
full-load GET rate of the round is offered; the pauses have millisecond grain, so requests come in
small bunches. Added latency is the difference of the percentiles through the server and straight
to the upstream at that rate, one run after the other. wrk counts an answer that took longer than
its connection's average cycle as several (its correction for coordinated omission). Idle
connections: a fresh server, one answered request on each connection, then VmRSS, shared pages
counted once for each process. Ready: from spawn until the first 200 (Seaworthy: /readyz on the
console; the others: a proxied GET), the median of {starts} starts, each with an empty data
directory, polled every millisecond."""


def render(results):
    """The whole report as Markdown."""
    parts = [heading(results), full_load_table(results)]
    if results["half_load"]:
        parts.append(half_load_table(results))
    parts.append(resources_table(results))
    if results["soak"]:
        parts.append(soak_table(results))
    parts += [targets_table(targets(results)), METHOD_NOTE.format(**results["options"])]
    return "\n\n".join(parts)
