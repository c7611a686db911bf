#!/usr/bin/env bash
# Installs what `conductor bench relay|dispatch --against` and `isolation` compare with, each peer in a folder of its own, pinned in bench/peers/.
#   tools/install_bench_peers.sh PYTHON [PEER ...]      default: nats autogen slim celery taskiq sandbox-runtime; into build/peers of this checkout
# Exit codes: 0 all installed (or there already), 1 at least one is not; the others are.
set -uo pipefail
python=$1
shift
tree=$(cd "$(dirname "$0")/.." && pwd)
failed=0

install() { # PEER
  local peer=$1 pins="$tree/bench/peers/$1.txt" folder="$tree/build/peers/$1"
  if [ "$peer" = celery ] || [ "$peer" = taskiq ]; then redis || return 1; fi
  if cmp -s "$pins" "$folder/installed"; then return 0; fi
  if [ "$peer" = sandbox-runtime ]; then
    command -v npm >/dev/null || { echo "it comes from npm, which is not on PATH" >&2 && return 1; }
    rm -rf "$folder" && mkdir -p "$folder" && npm install --silent --no-audit --no-fund --prefix "$folder" "$(cat "$pins")" || return 1
    cp "$pins" "$folder/installed"
    return 0
  fi
  rm -rf "$folder" && mkdir -p "$folder" && "$python" -m venv "$folder" || return 1
  "$folder/bin/pip" install --quiet --no-deps --requirement "$pins" || return 1
  if [ "$peer" = nats ]; then
    command -v go >/dev/null || { echo "the server of NATS is built with Go, which is not on PATH" >&2 && return 1; }
    GOBIN="$folder/bin" go install "$(cat "$tree/bench/peers/nats-server.txt")" || return 1
  fi
  cp "$pins" "$folder/installed"
}

redis() { # the server both queues keep their tasks in; a system package, started by the benchmark only
  command -v redis-server >/dev/null && return 0
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || { echo "redis-server is missing: install it with your package manager" >&2 && return 1; }
  # Without a policy its package would start it.
  local policy=/usr/sbin/policy-rc.d made=0
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && made=1; }
  apt-get install --quiet --yes --no-install-recommends redis-server >/dev/null
  local outcome=$?
  [ $made = 0 ] || rm -f $policy
  return $outcome
}

[ $# -gt 0 ] || set -- nats autogen slim celery taskiq sandbox-runtime
for one in "$@"; do
  if install "$one"; then echo "$one is installed"; else echo "$one could not be installed; the reason is above" >&2 && failed=1; fi
done
exit $failed
