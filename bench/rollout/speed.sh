#!/usr/bin/env bash
# Measures what the rollout costs: finding a client's bucket, keeping the gates of a thousand rules
# up to date, appending to the audit log and verifying it. Takes a minute or two beside the build.
#
#   bench/rollout/speed.sh [DIR]
#
# The log is written below DIR, on whose disk its appends are measured (the current folder, where
# nothing is said), and removed at the end.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
dir=$(mktemp -d "${1:-.}/ledger-speed.XXXXXX")
trap 'rm -rf "$dir"' EXIT
dir=$(cd "$dir" && pwd)

cd "$root"
cargo build --quiet --release -p seaworthy-policy --example bucket_speed --example gates_speed
cargo build --quiet --release -p seaworthy-store --example ledger_speed

echo "$(grep -m 1 '^model name' /proc/cpuinfo | sed 's/.*: //'), $(nproc) processors, $(uname -sr)"
echo "load average before: $(cut -d ' ' -f 1 /proc/loadavg)"
for measured in bucket_speed gates_speed; do
    echo "== $measured"
    "target/release/examples/$measured"
done
echo "== ledger_speed"
target/release/examples/ledger_speed "$dir/ledger"
