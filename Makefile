# Two commands on a fresh machine: make demo, make test. Both set everything up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A PYTHON that the caller names is used as it is by gpu-check: it installs nothing.
GPU_PYTHON = $(if $(filter file,$(origin PYTHON)),$(BIN)/python,$(PYTHON))

.PHONY: setup demo lint test test-all gpu-check bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "lshfm needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "setting up $(VENV): torch and what else is needed, about 6 GB; this can take some minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev,timm,slurm,export,optuna,report,tensorboard]'
	@touch $@

demo: setup
	$(BIN)/python benchmarks/demo.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: setup
	$(BIN)/python -m pytest -m 'not slow and not gpu' -n 2 --dist loadfile

test-all: setup
	$(BIN)/python -m pytest -m 'slow and not gpu' -n 2

gpu-check: $(if $(filter file,$(origin PYTHON)),setup)
	$(GPU_PYTHON) benchmarks/gpu_check.py $(PARTS)

# PARTS="machine gates 'step_*'" chooses, ARGS=--short is quick; finished parts are not run again.
bench: $(if $(filter file,$(origin PYTHON)),setup)
	$(GPU_PYTHON) -m benchmarks.speed $(PARTS) $(ARGS)

clean:
	rm -rf $(VENV) outputs checkpoints exports dist
