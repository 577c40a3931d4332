"""Medians, ratios and the tables that every comparison has. Pure: measurements in, text out."""

from statistics import median

SUBJECT = "seaworthy"

MET, NOT_MET, NOT_MEASURED = "met", "not met", "not measured"


def full_load_medians(runs):
    """{(method, server): medians of its rounds}; a server with an invalid run says so."""
    groups = {}
    for run in runs:
        groups.setdefault((run["method"], run["server"]), []).append(run)
    return {
        key: {
            "rounds": len(group),
            "failed": sum(run["failed"] for run in group),
            "valid": all(run["valid"] for run in group),
            **{figure: median(run[figure] for run in group)
               for figure in ["cpu_us_per_request", "rps", "p50_us", "p99_us"]
               if all(run.get(figure) is not None for run in group)},
        }
        for key, group in groups.items()
    }


def cpu_ratio(medians, method, numerator, denominator):
    """A ratio of two median costs, or None where either was not measured or had failures."""
    pair = [medians.get((method, server)) for server in (numerator, denominator)]
    if not all(figures and figures["valid"] for figures in pair):
        return None
    top, bottom = (figures.get("cpu_us_per_request") for figures in pair)
    return top / bottom if top and bottom else None


def judged(name, limit, value, is_met, text):
    if value is None:
        return {"target": name, "limit": limit, "value": None, "verdict": NOT_MEASURED, "text": text}
    return {"target": name, "limit": limit, "value": value, "text": text,
            "verdict": MET if is_met else NOT_MET}


def megabytes(size):
    return f"{size / 1e6:.1f} MB"


def table(head, rows):
    """A Markdown table, padded so that it reads in a terminal too; all but the first column right."""
    cells = [head, *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]

    def line(row):
        padded = [cell.ljust(width) if column == 0 else cell.rjust(width)
                  for column, (cell, width) in enumerate(zip(row, widths))]
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]
    return "\n".join([line(head), line(rule), *map(line, cells[1:])])


def full_load_table(results):
    medians = full_load_medians(results["full_load"])
    rows = []
    for (method, server), figures in medians.items():
        ratio = cpu_ratio(medians, method, server, "nginx")
        cpu = figures.get("cpu_us_per_request")
        rows.append([
            f"{method} {server}",
            "–" if cpu is None else f"{cpu:.1f}",
            "–" if ratio is None else f"{ratio:.2f}×",
            f"{figures['rps']:,.0f}",
            f"{figures['p50_us'] / 1e3:.2f}", f"{figures['p99_us'] / 1e3:.2f}",
            f"{figures['failed']:,}" + ("" if figures["valid"] else " INVALID"),
        ])
    return table(["full load", "CPU µs/request", "of nginx's", "requests/s", "p50 ms", "p99 ms",
                  "failed"], rows)


def targets_table(rows):
    return table(["target", "limit", "measured", "verdict"],
                 [[row["target"], row["limit"], row["text"], row["verdict"]]
                  for row in rows])


def heading(results):
    """When and where it was measured, and what."""
    machine = results["machine"]
    parts = [
        f"{results['date']}. {machine['cpu']}, {machine['processors']} processors, "
        f"{megabytes(machine['memory_bytes'])} of memory, {machine['kernel']}; "
        f"load average before: {machine['load_before']:.2f}.",
        "\n".join(f"- {name}: {version}" for name, version in results["versions"].items()),
    ]
    if machine["load_before"] > 0.5:
        parts.append("**The machine was busy with something else: these figures are noisy.**")
    return "\n\n".join(parts)
