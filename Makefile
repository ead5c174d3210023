# The few verbs of greso. Everything goes into .venv; nothing needs root, docker or more than the package index.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c requirements.lock
EXTRAS ?= service
VLLM_PIP := .venv-vllm/bin/python -m pip --disable-pip-version-check install --quiet
MANIFEST := pyproject.toml requirements.lock

# Bytecode is kept: without it each of the thousand processes that the tests start compiles the checkout anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo trainer serve test test-slow test-vllm lint bench lock audit sbom clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

install: .venv/.service ## .venv/bin/greso, with the service
demo: .venv/.trainer ## train a small model with and without greso, on this CPU, in minutes (ARGS="--help" for more)
	@$(BIN)/greso demo $(ARGS)
trainer: .venv/.trainer ## .venv/bin/greso with the reference trainer: greso train, greso bench-rl
serve: .venv/.service ## the service at http://127.0.0.1:8080 with a Redis of its own (ARGS="--help" for more)
	@$(BIN)/greso serve $(ARGS)
test: .venv/.dev ## the fast tests (ARGS="-k codec" for some)
	@$(BIN)/pytest -n auto --dist worksteal -m "not slow" --durations=15 $(ARGS)
test-slow: .venv/.dev ## the slow tests: real training, faults and kills, browser pages, a second kind of Redis
	@$(BIN)/pytest -n auto --dist worksteal -m slow --durations=15 $(ARGS)
test-vllm: .venv-vllm/.ready ## the tests of the vLLM engines: vLLM on this CPU, in an environment of its own (3.6 GB)
	@HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 .venv-vllm/bin/python -m pytest tests/vllm $(ARGS)
lint: .venv/.dev ## ruff and mypy --strict
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
bench: .venv/.dev ## measure the service; prints a table
	@$(BIN)/python -m tests.bench $(ARGS)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'greso needs Python 3.11 or later: make PYTHON=/path/to/python3.11 ...' >&2; exit 1; }
	@echo "creating .venv ..." && $(PYTHON) -m venv .venv
.venv/.service: .venv/bin/python $(MANIFEST)
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --upgrade 'pip>=25.1'
	@echo "installing the service ..." && $(PIP) -e '.[service]' && touch $@
.venv/.trainer: .venv/.service
	@echo "installing the trainer (torch is large: this takes a while) ..." && $(PIP) -e '.[service,trainer]' && touch $@
.venv/.dev: .venv/.trainer
	@echo "installing the tests' tools ..." && $(PIP) -e '.[service,trainer,otel]' --group dev && touch $@

# torch comes with what it asks for, as a CUDA build needs its libraries; all else is pinned whole.
.venv-vllm/.ready: tests/vllm/requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo 'vLLM is pinned for Python 3.11: make test-vllm PYTHON=/path/to/python3.11' >&2; exit 1; }
	@echo "installing vLLM (large: minutes) ..." && $(PYTHON) -m venv .venv-vllm
	@$(VLLM_PIP) -c tests/vllm/requirements.txt torch==2.13.0
	@$(VLLM_PIP) --no-deps -r tests/vllm/requirements.txt
	@$(VLLM_PIP) --no-deps -e . && touch $@

lock: .venv/bin/python ## pin all dependencies anew in requirements.lock; torch stays (change it by hand: it is gigabytes)
	@$(BIN)/python -m pip install --quiet uv && grep '^torch==' requirements.lock | $(BIN)/uv pip compile pyproject.toml \
		--all-extras --group dev --group audit --universal --python-version 3.11 --no-annotate --no-header --quiet --upgrade \
		-c /dev/stdin -o requirements.lock
audit: .venv-audit/.ready ## known advisories against what requirements.lock pins (asks the network)
	@.venv-audit/bin/pip-audit --requirement requirements.lock --no-deps --disable-pip --progress-spinner off $(ARGS)
sbom: .venv-audit/.ready ## sbom.cdx.json: what the service is made of, as CycloneDX (EXTRAS=service,trainer for more)
	@rm -rf .venv-sbom && .venv-audit/bin/python -m venv --without-pip .venv-sbom
	@.venv-audit/bin/python -m pip --disable-pip-version-check --python .venv-sbom install --quiet -c requirements.lock '.[$(EXTRAS)]'
	@.venv-audit/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
		--output-format JSON --output-file sbom.cdx.json .venv-sbom && rm -rf .venv-sbom && echo sbom.cdx.json
.venv-audit/.ready: $(MANIFEST)
	@$(PYTHON) -m venv .venv-audit && .venv-audit/bin/python -m pip --disable-pip-version-check install --quiet --upgrade 'pip>=25.1'
	@.venv-audit/bin/python -m pip --disable-pip-version-check install --quiet -c requirements.lock --group audit && touch $@

clean: ## remove the environments and the caches (not ./demo)
	@rm -rf .venv .venv-vllm .venv-audit .venv-sbom sbom.cdx.json .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
