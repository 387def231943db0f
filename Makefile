# Everything from nothing on Debian 12 with python3 and make: make help

PYTHON ?= python3
TESTING := $(filter test,$(MAKECMDGOALS))
SECTIONS ?= build base $(if $(TESTING),database test,$(if $(YUTU_DATABASE_URL),,database))
SYNC ?=
ARGS ?=
TOOLS := .tools/bin

export UV_PYTHON_DOWNLOADS := never
export UV_LINK_MODE ?= copy
# Start-up is mostly imports: compiled ahead, and kept, whatever the shell says.
export UV_COMPILE_BYTECODE := 1
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run test test-interop mutations torture check format lint types bench setup packages clean

help: ## what each of these does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: setup ## set up what is missing and serve on http://127.0.0.1:8000 (PORT=, TLS=1, YUTU_DEMO=0)
	@exec .venv/bin/yutu run $(ARGS)

test: setup ## every test, browser tests included (ARGS="-k name" for some)
	@# a worker that dies ends the run: with a new one in its place loadfile waits for ever
	@# files in the order of tests/conftest.py, the long ones first, and not by their number of tests
	.venv/bin/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 $(ARGS)

test-interop: SECTIONS = build base database test interop
test-interop: setup ## QGIS, LibreOffice and GDAL open what is served (a gigabyte of packages)
	.venv/bin/pytest -m interop -s tests/interop $(ARGS)
	.venv/bin/pytest tests/api/test_gis_clients.py $(ARGS)

mutations: setup ## each wall taken away in a copy must turn its named test red (ten minutes)
	.venv/bin/pytest -m mutation -s tests/test_mutations.py $(ARGS)

torture: SECTIONS = build base database test
torture: setup ## every threat at full length, a line of figures each (ARGS="--row kill-api", --minutes, --seed; 40 minutes)
	@exec .venv/bin/python -m tests.torture $(ARGS)

check: format lint types ## format, lint and types

format: setup
	.venv/bin/ruff format --check .

lint: setup
	.venv/bin/ruff check .

types: setup
	.venv/bin/mypy

bench: setup ## one line per figure, against a named baseline
	@exec .venv/bin/yutu bench $(ARGS)

setup: .venv/.ready maps/assets/node_modules/.ready ## only what the others need installed

# Asked anew each time, for a package may have been removed since; takes a tenth of a second.
packages:
	@docker/install-packages $(SECTIONS)

$(TOOLS)/.ready: docker/tools.txt | packages
	@echo "Installing uv and npm into .tools"
	@rm -rf .tools
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Yutu needs Python 3.11 or newer, $(PYTHON) is older: make PYTHON=/usr/bin/python3")'
	@$(PYTHON) -m venv .tools
	@$(TOOLS)/pip install --quiet --require-hashes --requirement docker/tools.txt
	@touch $@

.venv/.ready: uv.lock pyproject.toml $(TOOLS)/.ready | packages
	@echo "Installing Python packages into .venv"
	@$(TOOLS)/uv sync --quiet --frozen --python $(PYTHON) $(SYNC)
	@touch $@

maps/assets/node_modules/.ready: maps/assets/package-lock.json $(TOOLS)/.ready | packages
	@echo "Installing the map's assets"
	@cd maps/assets && PATH="$(CURDIR)/$(TOOLS):$$PATH" npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error
	@touch $@

clean: ## remove what was installed here; var/ and its data stay
	rm -rf .tools .venv maps/assets/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
