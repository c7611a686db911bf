#!/usr/bin/env bash
# Gets what the image can be built from without a registry: a Debian base and the wheels of requirements.lock, both into
# .cache/containers of this checkout. The network is used for what is not there yet. Exit codes: 0 there, 1 not possible here.
#   tools/prepare_containers.sh
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
folder="$root/.cache/containers"
mkdir -p "$folder"
log="$folder/prepare.log"
: >"$log"

fail() {
  echo "$1" >&2
  exit 1
}

[ "$(id -u)" = 0 ] || fail "a private container engine needs root"
for program in dockerd docker-compose mmdebstrap; do
  PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null || fail "$program is missing (tools/install_test_packages.sh installs it)"
done

# The packages are those that the Dockerfile would install, so that nothing is left to install in a build without network.
packages=python3,python3-venv,git,ca-certificates
if [ ! -s "$folder/base.tar" ] || [ "$(cat "$folder/base.packages" 2>/dev/null)" != "$packages" ]; then
  mmdebstrap --mode=root --format=tar --variant=minbase --include="$packages" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    bookworm "$folder/base.tar.new" >>"$log" 2>&1 || fail "mmdebstrap failed: $(tail -n1 "$log")"
  mv "$folder/base.tar.new" "$folder/base.tar"
  echo "$packages" >"$folder/base.packages"
fi

sum="$(cat "$root/requirements.lock" "$0" | sha256sum)"
if [ "$(cat "$folder/wheels.sum" 2>/dev/null)" != "$sum" ]; then
  rm -rf "$folder/wheels"
  # Without markers: pip would decide by this machine's Python which of them the base's needs.
  sed -E 's/ ; [^\\]*//' "$root/requirements.lock" >"$folder/requirements.txt"
  "$root/.venv/bin/python" -m pip download --quiet --require-hashes --only-binary :all: --python-version 3.11 \
    --dest "$folder/wheels" --requirement "$folder/requirements.txt" >>"$log" 2>&1 || fail "wheels cannot be had: $(tail -n1 "$log")"
  "$root/.venv/bin/python" -m pip download --quiet --only-binary :all: --dest "$folder/wheels" 'hatchling>=1.27' >>"$log" 2>&1 ||
    fail "the build backend cannot be had: $(tail -n1 "$log")"
  echo "$sum" >"$folder/wheels.sum"
fi
