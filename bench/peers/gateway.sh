#!/usr/bin/env bash
# Measures Seaworthy beside nginx, HAProxy and Caddy before the same upstream, in one run.
# `gateway.sh --help` says how; the measuring itself is in gateway/.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/../../scripts/packages.sh" python3

# Ten thousand connections need as many file descriptors on each side.
ulimit -n "$(ulimit -Hn)"
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$here/measure
exec python3 "$here/gateway" "$@"
