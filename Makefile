# The one thing this needs is Python 3.10+ with its venv module, and make.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
UV := .uv/bin/uv
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
SHARED = --numprocesses $(TEST_JOBS) --dist loadfile --no-loadscope-reorder
# Else each of the many processes of the tests compiles Airflow anew.
unexport PYTHONDONTWRITEBYTECODE
# Processes that share the tests, file by file in the order of tests/conftest.py; 0 runs them all in this one. Tests wait
# most of their time, so that twice the two processors of a small machine get through sooner.
TEST_JOBS ?= 4

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z][a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(UV):
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 10)' 2>/dev/null || { echo "make: $(PYTHON) is not Python 3.10 or newer; name one with PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "make: $(PYTHON) has no venv module; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9'

$(VENV)/.complete: $(UV) requirements/dev.txt pyproject.toml
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	VIRTUAL_ENV=$(VENV) $(UV) pip sync --quiet requirements/dev.txt
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --editable .
	@touch $@

.venv-upstream/.complete: $(UV) requirements/upstream.txt pyproject.toml
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv-upstream
	VIRTUAL_ENV=.venv-upstream $(UV) pip sync --quiet requirements/upstream.txt
	VIRTUAL_ENV=.venv-upstream $(UV) pip install --quiet --no-deps --editable .
	@touch $@

.venv-browser/.complete: $(UV) requirements/browser.txt pyproject.toml
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv-browser
	VIRTUAL_ENV=.venv-browser $(UV) pip sync --quiet requirements/browser.txt
	VIRTUAL_ENV=.venv-browser $(UV) pip install --quiet --no-deps --editable .
	@touch $@

.PHONY: install
install: $(VENV)/.complete ## Set up .venv from the lock

LOCK := $(UV) pip compile --quiet --universal --all-extras --no-emit-index-url --no-annotate
# What we name is locked in the lowest versions that we name, all else as it was when the lowest Airflow came out;
# but what newer clients of Kubernetes and the tests need came later. The row between has all as it was when its Airflow
# came out, which does not work with every later version.
LOWEST_AIRFLOW_DATE := 2025-10-20
MIDDLE_AIRFLOW_DATE := 2026-06-10
LATER := aiohttp aiohttp-socks azure-mgmt-containerservice google-cloud-container kubernetes kubernetes-asyncio moto multidict propcache pytest pytest-asyncio urllib3 yarl

.PHONY: lock
lock: $(UV) ## Rewrite the locked versions in requirements/
	$(LOCK) --python-version 3.10 --group test --group amazon --group lint --output-file requirements/dev.txt pyproject.toml
	$(LOCK) --python-version 3.10 --group browser --constraints requirements/dev.txt --output-file requirements/browser.txt pyproject.toml
	$(LOCK) --python-version 3.11 --group upstream --excludes requirements/upstream-excludes.txt --output-file requirements/upstream.txt pyproject.toml
	$(LOCK) --python-version 3.10 --group test --resolution lowest-direct --exclude-newer $(LOWEST_AIRFLOW_DATE) $(LATER:%=--exclude-newer-package %=false) --output-file requirements/matrix-low.txt pyproject.toml
	$(LOCK) --python-version 3.10 --group test --constraints requirements/matrix-middle-constraints.txt --exclude-newer $(MIDDLE_AIRFLOW_DATE) $(LATER:%=--exclude-newer-package %=false) --output-file requirements/matrix-middle.txt pyproject.toml

# An exported KUBECONFIG leads to who knows what: only one that is given here is used.
.PHONY: demo
demo: $(VENV)/.complete ## Run the examples on two embedded clusters (CLUSTER=kubernetes: real ones); with DAG=path KUBECONFIG=path yours on your own
	@$(BIN)/python -m demo $(if $(filter command,$(origin CLUSTER)),--cluster '$(CLUSTER)') $(if $(DAG),--dag '$(DAG)') $(if $(filter command,$(origin KUBECONFIG)),--kubeconfig '$(KUBECONFIG)')

.PHONY: demo-haskell
demo-haskell: $(VENV)/.complete ## Compile the Haskell example with Debian's ghc (installed if need be) for a pod of a real cluster
	@$(BIN)/python -m demo --cluster kubernetes --install-ghc --example haskell_hello

.PHONY: test
test: $(VENV)/.complete ## Run the tests
	$(BIN)/pytest $(SHARED) $(PYTEST_ARGS)

.PHONY: test-airflow
test-airflow: $(VENV)/.complete ## Test deferred tasks under a real scheduler and triggerer (minutes)
	KPO_AIRFLOW_SERVICES=1 $(BIN)/pytest $(PYTEST_ARGS) tests/services

.PHONY: test-browser
test-browser: .venv-browser/.complete ## Fill in the connection form in Debian's chromium (installed if need be); PICTURES=docs/images keeps what it looks like
	@.venv-browser/bin/python -m tests.browser
	KPO_BROWSER=1 KPO_PICTURES='$(PICTURES)' .venv-browser/bin/pytest $(PYTEST_ARGS) tests/browser

.PHONY: test-upstream
test-upstream: .venv-upstream/.complete ## Compare with the upstream operator, on the oldest Kubernetes client
	.venv-upstream/bin/pytest $(SHARED) $(PYTEST_ARGS) tests/parity tests/auth tests/pods tests/operators

.PHONY: test-matrix
test-matrix: $(UV) ## Test on the lowest and the highest versions that are supported and between, on Pythons that are there
	@.uv/bin/python -m tests.matrix $(SHARED) $(PYTEST_ARGS)

.PHONY: bench
bench: $(VENV)/.complete .venv-upstream/.complete ## Measure beside the upstream operator (20 minutes); writes docs/benchmarks.md
	@$(BIN)/python -m bench

.PHONY: lint
lint: $(VENV)/.complete ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(VENV)/.complete ## Let ruff rewrite the source
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: clean
clean: ## Remove everything that was set up
	rm -rf .venv .venv-upstream .venv-browser .venv-matrix-* .uv .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

include tests/cluster/cluster.mk
