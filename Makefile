# A fresh machine needs one command: `make demo` or `make test`. Each installs what it needs, once.
PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= torch>=2.10
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo timm trackers test test-slow chaos matrix check format docs build clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## install into .venv; an installed torch is kept, TORCH=torch==2.13.0 pins one

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 4))' || \
	  { echo 'deeplabx needs Python 3.11.4 or newer: make setup PYTHON=python3.12'; exit 2; }
	@test -x $(BIN)/python || { $(PYTHON) -c 'import torch' 2>/dev/null \
		&& $(PYTHON) -m venv --system-site-packages $(VENV) || $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python -m pip install --quiet '$(TORCH)'
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(READY)

demo: setup  ## train on the embedded data set: under three minutes on two cores
	$(BIN)/deeplabx train

# --no-deps, so that a CPU torch stays. This torchvision is the one of torch 2.13.0; PyPI's build of it cannot
# load its operators without CUDA, so tests/conftest.py declares those that its import needs.
timm: setup  ## add timm to .venv beside a CPU torch 2.13.0; without it the tests of backbone=timm are skipped
	$(BIN)/python -m pip install --quiet --no-deps torchvision==0.28.0 timm==1.0.31

trackers: setup  ## add MLflow and W&B to .venv; without them their tests are skipped
	$(BIN)/python -m pip install --quiet --editable '.[mlflow,wandb]'

test: setup  ## the test suite, on two cores; on real data where DEEPLABX_TEST_DATA is set
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow'

test-slow: setup trackers  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

chaos: setup  ## the reliability bench: kills, failing disks, lost processes; 22 minutes
	$(BIN)/python -m benchmarks.chaos

matrix: setup  ## the wheel on every Python here, oldest and newest dependencies; half an hour for each Python
	$(BIN)/python -m tests.install_matrix $(MATRIX)

check: setup  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup  ## write docs/settings.md from the schema
	$(BIN)/python -m deeplabx.command.settings_page > docs/settings.md

build: setup  ## wheel and sdist into dist/
	$(BIN)/python -m build

clean:  ## remove what make has made; outputs/ stays
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
