#!/usr/bin/env bash
# Builds the agent and the conformance runner of a language other than Python, from examples/agents and tests/conformance.
#   tools/build_conformance.sh node|go [FOLDER]      default: .cache/conformance of this checkout; caches of npm and Go are in it too
# The network is used when a package is not in the folder yet. Exit codes: 0 built, 1 not possible here, 2 the sources do not build.
set -euo pipefail
umask 022 # the uid of an agent has to be able to read and run what is built
language="${1:?node or go}"
root="$(cd "$(dirname "$0")/.." && pwd)"
folder="${2:-$root/.cache/conformance}"
mkdir -p "$folder/$language"
folder="$(cd "$folder" && pwd -P)" # npm takes a folder behind a link for another project
here="$folder/$language"
log="$folder/$language.log"
: >"$log"

fail() {
  echo "$1" >&2
  exit "${2:-1}"
}

changed() { # changed STAMP FILE...: whether the files say something else than at the last success
  ! cat "${@:2}" | sha256sum | cmp -s - "$here/$1"
}

stamp() {
  cat "${@:2}" | sha256sum >"$here/$1"
}

build_node() {
  command -v node >/dev/null || fail "node is not on PATH: install Node.js 20 or later"
  command -v npm >/dev/null || fail "npm is not on PATH"
  [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] || fail "Node.js 20 or later is needed, this is $(node --version)"
  cp "$root"/examples/agents/node/{package.json,package-lock.json,agent.js} "$root/tests/conformance/runner_node/runner.js" "$here"
  if changed packages "$here/package-lock.json"; then
    cd "$here"
    npm ci --cache "$folder/npm" --ignore-scripts --no-audit --no-fund --fetch-retries 1 --fetch-timeout 60000 >"$log" 2>&1 || {
      grep -q EUSAGE "$log" && fail "package.json and package-lock.json do not fit each other; see $log" 2
      fail "npm could not install the packages ($(grep -m1 -E 'npm (error|ERR!)' "$log" || tail -n1 "$log")); see $log"
    }
    stamp packages "$here/package-lock.json"
  fi
}

build_go() {
  command -v go >/dev/null || fail "go is not on PATH: install Go 1.26 or later"
  export GOMODCACHE="$folder/go-modules" GOCACHE="$folder/go-build" GOFLAGS="-modcacherw -buildvcs=false" GOTOOLCHAIN=local CGO_ENABLED=0
  export PATH="$root/.venv/bin:$PATH"
  command -v buf >/dev/null || fail "buf is not on PATH: make setup-dev"
  mkdir -p "$here/runner"
  cp "$root"/examples/agents/go/{go.mod,go.sum,buf.gen.yaml,main.go} "$here"
  cp "$root/tests/conformance/runner_go/main.go" "$here/runner"
  cd "$here"
  go mod download >"$log" 2>&1 || fail "go could not get the modules ($(tail -n1 "$log")); see $log"
  mapfile -t contracts < <(find "$root/proto" -name '*.proto' | sort)
  if changed generated go.sum buf.gen.yaml "${contracts[@]}"; then
    rm -rf gen
    buf generate "$root" >"$log" 2>&1 || fail "buf generate failed ($(tail -n1 "$log")); see $log" 2
    stamp generated go.sum buf.gen.yaml "${contracts[@]}"
  fi
  go build -ldflags=-s -o bin/agent . >"$log" 2>&1 && go build -ldflags=-s -o bin/runner ./runner >>"$log" 2>&1 ||
    fail "go build failed: $(tail -n3 "$log")" 2
}

case "$language" in
  node) build_node ;;
  go) build_go ;;
  *) fail "node or go, not $language" ;;
esac
