#!/usr/bin/env bash
# Runs the JSON-Schema-Test-Suite on validators made as the protection `request_schema` makes them.
#
#   json-schema.sh SUITE_DIR
#
# SUITE_DIR is a checkout of the suite: tests/<draft>/ and remotes/. It prints the cases of each
# draft and how many passed, and exits with 1 where a required one did not.
# docs/request-schema.md shows the result.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [[ $# -ne 1 || $1 == --help ]]; then
  sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit "$(($# == 1 ? 0 : 64))"
fi
exec cargo run --quiet --release --manifest-path "$here/../../Cargo.toml" \
  --package seaworthy-policy --example json_schema_suite -- "$1"
