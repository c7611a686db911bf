#!/usr/bin/env bash
# Makes a virtual environment with exactly what a lock file lists (hashes checked), and this project in place.
# Usage: make_venv.sh PYTHON VENV LOCK
set -euo pipefail
python=$1 venv=$2 lock=$3

"$python" - <<'PY' || exit 1
import sys
if sys.version_info < (3, 11):
    sys.exit(f"conductor needs Python 3.11 or newer, this is {sys.version.split()[0]}; set PYTHON=/path/to/python3.11")
PY

if [ ! -x "$venv/bin/pip" ]; then
  rm -rf "$venv"
  if ! "$python" -m venv "$venv" 2>"${TMPDIR:-/tmp}/conductor-venv.$$"; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      echo "installing python3-venv (Debian splits it from python3)"
      apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
      rm -rf "$venv" && "$python" -m venv "$venv"
    else
      cat "${TMPDIR:-/tmp}/conductor-venv.$$" >&2
      echo "cannot make a virtual environment; on Debian or Ubuntu: sudo apt-get install python3-venv" >&2
      exit 1
    fi
  fi
  rm -f "${TMPDIR:-/tmp}/conductor-venv.$$"
fi
echo "installing the packages of $lock"
"$venv/bin/pip" install --quiet --require-hashes --requirement "$lock"
"$venv/bin/pip" install --quiet --no-deps --editable .
