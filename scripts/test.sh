#!/usr/bin/env bash
# Everything that must hold before a change lands: format, lints, documentation, tests.
# It stops at the first step that fails, with that step's exit code.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: scripts/test.sh [--quick] [-- TEST-ARGUMENT…]

  --quick            skip the documentation build and the installing of packages
  -- TEST-ARGUMENT…  passed to the test binaries: a name filter, --nocapture, …

examples:
  scripts/test.sh
  scripts/test.sh --quick -- rate_limit
TEXT
}

# The one list of Debian packages that the build and the tests need.
packages=(
    gcc          # links every binary; compiles SQLite and the TLS primitives
    libc6-dev    # the C headers and start files for both
    prometheus   # promtool, the judge of what /metrics prints
    chromium     # opens the console's pages in their tests
    openssl      # signs an alert, and verifies a checkpoint of the audit log, as the manual shows
    curl         # sends it
    prometheus-alertmanager # posts alerts, and tries again, in their test
    redis-server # shares the modes of a fleet in its tests
    python3      # computes the audit log's roots, as the manual shows it
)

quick=no
while [[ $# -gt 0 ]]; do
    case $1 in
    --quick) quick=yes ;;
    -h | --help) usage && exit 0 ;;
    --) shift && break ;;
    *) usage >&2 && exit 64 ;;
    esac
    shift
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ -d ${HOME:-}/.cargo/bin ]] && PATH=$PATH:$HOME/.cargo/bin
if ! command -v cargo >/dev/null; then
    echo "test.sh: no cargo: install Rust with rustup (https://rustup.rs)" >&2
    exit 69
fi

times=()

step() {
    local name=$1 code=0 start=$SECONDS
    shift
    echo "==> $name: $*"
    "$@" || code=$?
    times+=("$(printf '%5d s  %s' $((SECONDS - start)) "$name")")
    [[ $code -eq 0 ]] && return
    echo "==> $name failed with exit code $code" >&2
    exit "$code"
}

print_times() {
    echo "==> times"
    printf '%s\n' "${times[@]}"
}
trap print_times EXIT

[[ $quick == yes ]] || step packages scripts/packages.sh "${packages[@]}"
step format cargo fmt --all --check
step lints cargo clippy --workspace --all-targets -- -D warnings
[[ $quick == yes ]] || step docs env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
step tests cargo test --workspace -- "$@"
echo "==> all passed"
