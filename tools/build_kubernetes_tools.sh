#!/usr/bin/env bash
# Builds what the tests of k8s/ use, from Go modules, into .cache/kubernetes of this checkout: kustomize, which renders, and
# kubectl-validate, which checks against the schemas of a Kubernetes version with no cluster and no network.
#   tools/build_kubernetes_tools.sh kustomize|kubectl-validate...      minutes of processor time each, once
# Exit codes: 0 there, 1 not possible here.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
folder="$root/.cache/kubernetes"
mkdir -p "$folder/bin"
export GOBIN="$folder/bin" GOMODCACHE="$folder/go-modules" GOCACHE="$folder/go-build" GOFLAGS=-modcacherw GOTOOLCHAIN=local CGO_ENABLED=0

get() { # get NAME MODULE VERSION
  [ "$(cat "$folder/$1.version" 2>/dev/null)" = "$3" ] && [ -x "$folder/bin/$1" ] && return
  command -v go >/dev/null || { echo "go is not on PATH: install Go 1.24 or later" >&2; exit 1; }
  go install -ldflags=-s "$2@$3" >"$folder/$1.log" 2>&1 ||
    { echo "$1 could not be built ($(tail -n1 "$folder/$1.log")); see $folder/$1.log" >&2; exit 1; }
  echo "$3" >"$folder/$1.version"
}

for tool in "${@:?kustomize or kubectl-validate}"; do
  case "$tool" in
    kustomize) get kustomize sigs.k8s.io/kustomize/kustomize/v5 v5.7.1 ;;
    kubectl-validate) get kubectl-validate sigs.k8s.io/kubectl-validate v0.0.4 ;;
    *) echo "kustomize or kubectl-validate, not $tool" >&2; exit 1 ;;
  esac
done
rm -rf "$folder/go-modules" "$folder/go-build"
