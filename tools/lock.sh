#!/usr/bin/env bash
# Resolves the lock files from pyproject.toml, hashes included, package hosts left out. Usage: lock.sh UV
set -euo pipefail
uv=$1
options=(--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet)
"$uv" pip compile pyproject.toml "${options[@]}" --output-file requirements.lock
"$uv" pip compile pyproject.toml --group dev "${options[@]}" --output-file requirements-dev.lock
"$uv" pip compile --group demo "${options[@]}" --output-file requirements-demo.lock
