# `make help` lists the verbs. Everything installs into .venv; nothing else on the machine is changed by `setup`.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup setup-dev demo test test-long check format stubs lock bench bench-peers clean

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

setup: $(VENV)/.runtime ## create .venv with what Conductor needs to run

setup-dev: $(VENV)/.dev ## the same with what the tests and checks need

$(VENV)/.runtime: requirements.lock pyproject.toml tools/make_venv.sh
	@tools/make_venv.sh "$(PYTHON)" $(VENV) requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml tools/make_venv.sh
	@tools/make_venv.sh "$(PYTHON)" $(VENV) requirements-dev.lock
	@touch $(VENV)/.runtime $@

$(VENV)/.demo: $(VENV)/.runtime requirements-demo.lock
	@$(BIN)/pip install --quiet --require-hashes --requirement requirements-demo.lock
	@touch $@

demo: $(VENV)/.demo ## start Conductor, run real agents on a real repository, show what happened, clean up
	@$(BIN)/python -m examples.demo $(if $(AGENT),--agent $(AGENT))

test: setup-dev ## everything CI runs, servers and system packages included
	@tools/install_test_packages.sh
	@tools/install_claude_code.sh || echo "the tests with the real Claude Code are skipped"
	@for language in node go; do tools/build_conformance.sh $$language || echo "the tests with an agent in $$language are skipped"; done
	@$(MAKE) --no-print-directory check
	@$(BIN)/python -m pytest tests/contract tests/integration tests/conformance tests/escape tests/e2e tests/faults
	@$(BIN)/python -m pytest -n auto tests/simulation

FAULT_SEEDS ?= 1-10

test-long: setup-dev ## what tries many seeds, others at each run: faults, properties, schedules; hours
	@CONDUCTOR_FAULT_SEEDS=$(FAULT_SEEDS) $(BIN)/python -m pytest tests/faults
	@CONDUCTOR_HYPOTHESIS=long CONDUCTOR_SCHEDULES=$(or $(SCHEDULES),200000) CONDUCTOR_SEED=$(or $(SEED),$$(date +%s)) \
		$(BIN)/python -m pytest -n auto --timeout 86400 tests/contract/test_mailboxes_model.py tests/contract/test_tasks_model.py tests/simulation \
		tests/integration/test_hostile_streams.py tests/unit/controlplane/api/test_peek.py

check: setup-dev ## format, lint, types, protos, layers, unit tests; under a minute, without root
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/buf lint
	@$(BIN)/buf format --diff --exit-code
	@$(BIN)/python tools/check_breaking.py
	@$(BIN)/python tools/generate_stubs.py --check
	@$(BIN)/python -m pytest -q tests/unit tests/architecture

format: setup-dev ## write the code as the formatters want it
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --quiet --fix . && $(BIN)/buf format --write

stubs: setup-dev ## generate claude_conductor/v1 from proto/
	@$(BIN)/python tools/generate_stubs.py

lock: setup-dev ## resolve the lock files again from pyproject.toml
	@tools/lock.sh $(BIN)/uv

bench: setup ## measure the numbers of docs/benchmarks.md on this machine
	@$(BIN)/conductor bench all

bench-peers: ## install what `conductor bench relay|dispatch --against` and `isolation` compare with, into build/peers
	@tools/install_bench_peers.sh "$(PYTHON)"

clean: ## remove what the verbs above made in this folder
	rm -rf $(VENV) .cache/conformance build/peers .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
