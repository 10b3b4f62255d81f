# Every target sets itself up: a machine with Python >= 3.11 and make needs nothing else.
#
#   PYTHON=...          the interpreter to build the environments from (else the first >= 3.11 found)
#   PYTEST_ARGS=...     more arguments for pytest, e.g. PYTEST_ARGS="-k conv -x"
#   TORCH_PIP_ARGS=...  more arguments for the installation of PyTorch, e.g.
#                       TORCH_PIP_ARGS="--index-url https://download.pytorch.org/whl/cpu"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

VENV := .venv
VENV_TORCH := .venv-torch
TORCH_VERSION ?= 2.13.0
TORCH_PIP_ARGS ?=
PYTEST_ARGS ?=

ifeq ($(OS),Windows_NT)
  BIN := Scripts
else
  BIN := bin
endif

PY := $(VENV)/$(BIN)/python
PY_TORCH := $(VENV_TORCH)/$(BIN)/python
STAMP := $(VENV)/.ready
STAMP_TORCH := $(VENV_TORCH)/.ready

# Two workers and one BLAS thread each: the tests of the thread team need cores of their own.
TEST_ENV := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONHASHSEED=0
WORKERS ?= 2

.PHONY: help demo test test-slow test-torch check format wheel clean

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml tools/make_venv.sh
	@PYTHON="$(PYTHON)" sh tools/make_venv.sh $(VENV) $(BIN)
	$(PY) -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@

$(STAMP_TORCH): pyproject.toml tools/make_venv.sh
	@PYTHON="$(PYTHON)" sh tools/make_venv.sh $(VENV_TORCH) $(BIN)
	$(PY_TORCH) -m pip install --quiet --disable-pip-version-check $(TORCH_PIP_ARGS) "torch==$(TORCH_VERSION)"
	$(PY_TORCH) -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@

demo: $(STAMP) ## train, check and explain a network; writes demo/
	$(PY) -m striate.demo

test: $(STAMP) ## the tests and the docstrings' examples, without PyTorch
	$(TEST_ENV) $(PY) -m pytest -n $(WORKERS) -m "not torch and not slow" $(PYTEST_ARGS) tests striate

test-slow: $(STAMP) ## the long tests
	$(TEST_ENV) $(PY) -m pytest -m "slow and not torch" $(PYTEST_ARGS) tests

test-torch: $(STAMP_TORCH) ## the comparisons with PyTorch, in an environment of their own
	$(TEST_ENV) $(PY_TORCH) -m pytest -m torch $(PYTEST_ARGS) tests/torch

check: $(STAMP) ## format, lint, types, layering, file sizes
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) tools/typecheck.py
	$(PY) -m pytest -q tests/test_layering.py
	$(PY) tools/file_sizes.py

format: $(STAMP) ## format the code and apply the safe fixes
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

wheel: $(STAMP) ## build the wheel into dist/
	$(PY) -m pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## remove environments, caches and what commands wrote
	rm -rf $(VENV) $(VENV_TORCH) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find striate tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
