#!/usr/bin/env bash
# Measures what it costs to read requests: Seaworthy with every protection, nginx as a bare proxy,
# and nginx with ModSecurity and OWASP's Core Rule Set, before the same upstream, in one run.
# `content.sh --help` says how; the measuring itself is in content/.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/../../scripts/packages.sh" python3

export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$here/measure
exec python3 "$here/content" "$@"
