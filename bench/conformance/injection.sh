#!/usr/bin/env bash
# Measures what the protection `injection` finds in libinjection's corpora, and how long it takes.
#
#   injection.sh DATA_DIR [--show-missed]
#   injection.sh --speed
#
# DATA_DIR holds the files of libinjection's data/: sqli-*.txt and xss-*.txt with attacks,
# false_positives.txt with what is none. A line is a value, percent-encoded as in a query; empty
# lines and those that begin with # are skipped. docs/injection.md shows the result.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [[ $# -eq 0 || $1 == --help ]]; then
  sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit "$(($# == 0 ? 64 : 0))"
fi
exec cargo run --quiet --release --manifest-path "$here/../../Cargo.toml" \
  --package seaworthy-policy --example injection_corpora -- "$@"
