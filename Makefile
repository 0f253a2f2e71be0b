# `make help` lists the targets. Everything lives below this folder: .venv/ (environment) and .run/ (data, logs, sockets).
SHELL := /bin/bash
PYTHON ?= python3
PROFILE ?= local_parity
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup run accept test check bench drills faults up down status report lock format test-datastore test-faults soak clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

setup: $(STAMP) ## make the environment; leaves the command at .venv/bin/platform

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 78; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "python3 has no venv module; install it (Debian: python3-venv) and run make again"; exit 78; }
	@echo "installing the locked environment into $(VENV) ..."
	@$(BIN)/python -m pip install -q --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $(STAMP)

run: setup ## bring the packs up, stream real transactions, print status and report
	@scripts/run_line $(PROFILE)

accept: setup ## bring the platform up and take the eight gates of acceptance
	@$(BIN)/platform --profile $(PROFILE) up
	@$(BIN)/platform --profile $(PROFILE) accept

up: setup ## bring the platform up
	@$(BIN)/platform --profile $(PROFILE) up

down: setup ## bring it down; nothing is left running
	@$(BIN)/platform --profile $(PROFILE) down

status: setup ## one line per pack
	@$(BIN)/platform --profile $(PROFILE) status

report: setup ## the run report of the current run
	@$(BIN)/platform --profile $(PROFILE) report

check: setup ## lint, types, import contracts, tidy tests; under a minute
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .
	@$(BIN)/lint-imports --no-logo >$(VENV)/lint-imports.log 2>&1 || { cat $(VENV)/lint-imports.log; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/pytest -q -n 0 tests/tidy
	@echo "check: good"

# One test at a time to whichever process is free: in chunks all system tests, minutes each, would go to one of them. Marks of
# xdist_group would change nothing: xdist 3.8 writes them where pytest 9.2 does not look.
test: setup ## every test that CI runs
	@$(BIN)/pytest -q -n $(WORKERS) --dist load --maxschedchunk 1 -m "not slow"

test-datastore: setup ## the regression names of the datastore incident
	@$(BIN)/pytest -v -m datastore

test-faults: setup ## the slow fault suites
	@$(BIN)/pytest -v -m "slow" -n 0

drills: setup ## every drill at its own length, as tests (slow)
	@$(BIN)/pytest -v -n 0 -m slow tests/system/test_drills.py

FAULTS ?= 250
SEED ?= 20260210
MINUTES ?= 60
faults: setup ## a campaign of FAULTS faults on the platform, and as many on one behind a proxy; digests compared
	@scripts/run_drill $(PROFILE) campaign --faults $(FAULTS) --seed $(SEED)
	@$(BIN)/platform --profile $(PROFILE) drill campaign --network --faults $(FAULTS) --seed $(SEED)

soak: setup ## MINUTES of a steady stream under a schedule of faults; everything must stay flat
	@scripts/run_drill $(PROFILE) soak --minutes $(MINUTES) --seed $(SEED)

bench: setup ## the benchmark beside both probes; prints its JSON object last
	@$(BIN)/platform --profile $(PROFILE) bench --json

lock: setup ## resolve requirements.lock anew from pyproject.toml
	@$(BIN)/uv pip compile pyproject.toml --extra dev --extra build --universal --generate-hashes --no-header --no-annotate -q -o requirements.lock

format: setup ## format the code
	@$(BIN)/ruff check -q --fix . ; $(BIN)/ruff format -q .

clean: ## remove the environment and every run directory (down first)
	@rm -rf $(VENV) .run
