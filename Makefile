# Two commands on a fresh machine: make demo, make test. Both set everything up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A PYTHON that the caller names is used as it is by gpu-check: it installs nothing.
GPU_PYTHON = $(if $(filter file,$(origin PYTHON)),$(BIN)/python,$(PYTHON))

.PHONY: setup demo lint test test-all test-matrix gpu-check bench docs pictures clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "lshfm needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "setting up $(VENV): torch and what else is needed, about 7 GB; this takes several minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev,docs,timm,slurm,export,optuna,report,tensorboard]'
	@touch $@
	@echo "$(VENV) is ready: source $(BIN)/activate, then lshfm --help"

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

# The fast tests under each of these that is at hand, with the oldest torch and with the newest, in environments of their
# own. TORCH="2.13.* 2.14.*" takes these versions of torch instead.
PYTHONS ?= python3.11 python3.12 python3.13 python3.14
test-matrix:
	$(PYTHON) benchmarks/matrix.py $(PYTHONS) $(addprefix --torch ,$(TORCH))

gpu-check: $(if $(filter file,$(origin PYTHON)),setup)
	$(GPU_PYTHON) benchmarks/gpu_check.py $(PARTS)

# PARTS="machine gates 'step_*'" chooses, ARGS=--short is quick; finished parts are not run again.
bench: $(if $(filter file,$(origin PYTHON)),setup)
	$(GPU_PYTHON) -m benchmarks.speed $(PARTS) $(ARGS)

# The site, in site/: a broken link, or anything that it would fetch from elsewhere, fails.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# The drawings, the terminal's recording and the report's screenshot in docs/pictures, and what the tour predicts.
pictures: setup
	$(BIN)/python -m docs.made.photos
	$(BIN)/python -m docs.made.pictures
	$(BIN)/python -m docs.made.recording

clean:
	rm -rf $(VENV) .venv-* outputs checkpoints exports dist site
