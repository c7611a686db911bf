#!/usr/bin/env bash
# Installs a pinned Claude Code from npm into a folder of its own and prints the path of its program. Opt-in: nothing calls it for you.
#   tools/install_claude_code.sh [FOLDER]      default: .cache/claude-code of this checkout; about 250 MB
# CLAUDE_CODE_VERSION overrides the pin. Exit codes: 0 installed (or there already), 1 not possible here.
set -euo pipefail
umask 022 # a foreign uid has to be able to read and run it
version="${CLAUDE_CODE_VERSION:-2.1.330}"
folder="${1:-$(cd "$(dirname "$0")/.." && pwd)/.cache/claude-code}"
package=@anthropic-ai/claude-code

fail() {
  echo "Claude Code was not installed: $1" >&2
  exit 1
}

[ "$(uname -s)" = Linux ] || fail "the sandbox needs Linux, this is $(uname -s)"
case "$(uname -m)" in
  x86_64) processor=x64 ;;
  aarch64 | arm64) processor=arm64 ;;
  *) fail "there is no package for the processor $(uname -m)" ;;
esac
libc=""
compgen -G '/lib/ld-musl-*' >/dev/null && ! compgen -G '/lib*/ld-linux-*' >/dev/null && libc=-musl
native="$package-linux-$processor$libc"
program="$folder/node_modules/$native/claude"

installed() {
  [ -x "$program" ] && grep -q "\"version\": *\"$version\"" "$folder/node_modules/$native/package.json"
}

if ! installed; then
  command -v npm >/dev/null || fail "npm is not on PATH; install Node.js 20 or later, or name a binary you have in CONDUCTOR_CLAUDE_BINARY"
  mkdir -p "$folder" || fail "$folder cannot be written"
  log="$folder/npm.log"
  # Install scripts stay off: the native program of the platform package is started directly, they add nothing to it.
  npm install --prefix "$folder" --no-audit --no-fund --no-save --ignore-scripts --fetch-retries 1 --fetch-timeout 60000 \
    "$package@$version" "$native@$version" >"$log" 2>&1 ||
    fail "npm could not install $package@$version ($(grep -m1 -E 'npm (error|ERR!)' "$log" || tail -n1 "$log")); the whole log is in $log"
  installed || fail "npm reported success, but $program is not there; see $log"
fi
echo "$program"
