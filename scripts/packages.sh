#!/usr/bin/env bash
# Makes sure that Debian packages are installed:  scripts/packages.sh NAME…
#
# Says nothing when all are there. Installs the missing ones as root (or through a sudo that
# asks for no password); where it cannot, it prints what is missing, the command that installs
# it, and exits 69. No service of an installed package is started.
set -euo pipefail

readonly UNAVAILABLE=69
readonly POLICY=/usr/sbin/policy-rc.d
readonly LOCK=/run/lock/seaworthy-packages.lock

is_installed() {
    # A package of two architectures prints its status twice.
    [[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" == installed* ]]
}

missing_of() {
    local name
    for name in "$@"; do
        is_installed "$name" || echo "$name"
    done
}

give_up() {
    echo "packages.sh: missing: ${missing[*]}" >&2
    echo "packages.sh: $1; install them with:" >&2
    echo "    apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit "$UNAVAILABLE"
}

# Debian starts a service when its package is installed, unless this file says 101. One that the
# machine already has is its owner's decision and stays as it is.
forbid_service_starts() {
    [[ -e $POLICY ]] && return
    trap 'rm -f "$POLICY"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
}

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update &&
        apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
}

if [[ $# -eq 0 || $1 == -* ]]; then
    echo "usage: scripts/packages.sh NAME…" >&2
    exit 64
fi

# Two runs at once would trip over each other's policy file: as root, the second one waits here
# and then looks again.
if [[ $EUID -eq 0 ]]; then
    mkdir -p "${LOCK%/*}"
    exec 9>"$LOCK"
    flock 9
fi

missing=()
while read -r name; do missing+=("$name"); done < <(
    if command -v dpkg-query >/dev/null; then missing_of "$@"; else printf '%s\n' "$@"; fi
)
[[ ${#missing[@]} -eq 0 ]] && exit 0

command -v apt-get >/dev/null || give_up "this machine has no apt-get"
if [[ $EUID -ne 0 ]]; then
    sudo -n true 2>/dev/null || give_up "not root, and sudo asks for a password"
    exec sudo -n bash "${BASH_SOURCE[0]}" "${missing[@]}"
fi

echo "packages.sh: installing ${missing[*]}" >&2
log=$(mktemp)
forbid_service_starts
# The lock's descriptor is closed for apt-get, so that nothing it leaves behind holds the lock.
if ! install_packages "${missing[@]}" >"$log" 2>&1 9>&-; then
    tail -n 20 "$log" >&2
    give_up "apt-get failed (all it said is in $log)"
fi
rm -f "$log"
