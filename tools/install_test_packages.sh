#!/usr/bin/env bash
# Installs the Debian packages the tests use beyond .venv. Does nothing without root or apt: tests that need one then say so.
set -euo pipefail
wanted=(bubblewrap:bwrap strace:strace prometheus:prometheus chromium:chromium curl:curl redis-server:redis-server)
missing=()
for entry in "${wanted[@]}"; do
  command -v "${entry#*:}" >/dev/null || missing+=("${entry%%:*}")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "not installed: ${missing[*]}; the tests that need them are skipped visibly (root and apt would install them)"
  exit 0
fi
echo "installing ${missing[*]}"
apt-get update -qq
# Debian starts a service when it is installed, unless this file says no (invoke-rc.d(8)); the tests start their own.
if [ ! -e /usr/sbin/policy-rc.d ]; then
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d
fi
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
