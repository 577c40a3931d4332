"""What the commands have in common: options, the machine, exit codes."""

import argparse
import os
import platform
import signal
import sys
from pathlib import Path

import servers

EXIT_USAGE = 64
EXIT_UNAVAILABLE = 69


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def whole(least):
    def parse(text):
        value = int(text.replace("_", "").replace(",", ""))
        if value < least:
            raise ValueError
        return value
    parse.__name__ = f"whole number, at least {least}:"
    return parse


def duration(text):
    """Seconds, from `10s` or `10`."""
    value = int(text.removesuffix("s"))
    if value < 1:
        raise ValueError
    return value


def machine():
    cpu = next((line.partition(":")[2].strip() for line in
                Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
               platform.machine())
    return {
        "cpu": cpu, "processors": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "load_before": os.getloadavg()[0],
    }


def progress(text):
    print(text, file=sys.stderr, flush=True)


def main(name, run):
    """Ends with the exit code of `run`."""
    # A plain SIGTERM would end this script and leave the servers behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        run()
    except servers.CannotStart as error:
        progress(f"{name}: {error}")
        return EXIT_UNAVAILABLE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0
