# A machine with Python 3.11+ (with venv), pip and make needs nothing else: every target builds what it lacks.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

# Tests and benchmarks start the program hundreds of times: it is compiled once.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
PYTEST_ARGS ?=
BENCH_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.project-installed
# Whatever the shell points at, a demonstration spends no call of a real account and touches no fleet.
LOCALLY := env -u TAGMILL_REDIS_URL -u TAGMILL_FILESTACK_API_KEY -u TAGMILL_FILESTACK_APP_SECRET

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## the environment in .venv, from the lock file

$(VENV)/.lock-installed: requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit("Tagmill needs Python 3.11 or newer: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo "Setting up $(VENV) from the lock file; this takes a minute or two, once."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

$(READY): $(VENV)/.lock-installed pyproject.toml
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: demo
demo: $(READY) ## tag the photographs in examples/photos, end to end
	@scripts/demo $(LOCALLY) $(BIN)/tagmill

.PHONY: test
test: $(READY) ## the tests
	$(BIN)/python -m pytest -n auto --dist worksteal $(PYTEST_ARGS)

.PHONY: test-long
test-long: $(READY) ## the long tests: many kills, many examples
	$(BIN)/python -m pytest -m long --timeout 1800 $(PYTEST_ARGS)

.PHONY: test-s3
test-s3: $(READY) ## the sinks on your bucket: TAGMILL_TEST_S3_URI=s3://bucket/prefix
	@[ -n "$(TAGMILL_TEST_S3_URI)" ] || { echo 'name a bucket: make test-s3 TAGMILL_TEST_S3_URI=s3://bucket/prefix'; exit 2; }
	TAGMILL_TEST_S3_URI="$(TAGMILL_TEST_S3_URI)" TAGMILL_S3_ENDPOINT_URL="$(TAGMILL_S3_ENDPOINT_URL)" \
	  $(BIN)/python -m pytest tests/s3 tests/contract/test_sink_contract.py $(PYTEST_ARGS)

.PHONY: test-wheel
test-wheel: $(READY) ## the wheel in a clean environment: complete, and working
	@PYTHON="$(PYTHON)" scripts/test-wheel $(PYTEST_ARGS)

.PHONY: check
check: $(READY) ## style, types, import contract, dead code
	@scripts/check

.PHONY: format
format: $(READY) ## rewrite the code in the house format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

.PHONY: bench
bench: $(READY) ## measure speed, memory and the limiter
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

.PHONY: dist
dist: $(READY) ## sdist and wheel in dist/
	@rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .

.PHONY: lock
lock: $(READY) ## pin the dependencies anew after a change in pyproject.toml
	scripts/lock

.PHONY: upgrade
upgrade: $(READY) ## move every pin to the newest version that pyproject.toml allows
	scripts/lock --upgrade

.PHONY: clean
clean: ## everything that can be made again; runs in tagmill-runs/ stay
	rm -rf $(VENV) .links .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist ./*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf benchmarks/results
	find examples -name '*.tags.json' -delete
