# Every target does its own set-up: a machine with Python >= 3.11, pip and make needs nothing else.
#
#   PYTHON=...          the interpreter to build the environments from (else the first >= 3.11 found)
#   PYTEST_ARGS=...     more arguments for pytest: make test PYTEST_ARGS="-k conv -x"
#   DATA=...            the folder of CIFAR-10's binary files: make speedrun DATA=...
#   WORKERS=...         the number of test processes (0: none but pytest's own)
#   TORCH_PIP_ARGS=...  more arguments for installing PyTorch, such as an index that has CPU builds only:
#                       TORCH_PIP_ARGS="--index-url https://download.pytorch.org/whl/cpu"
#   SUITE=...           benchmarks to run: layers, weak, nets, train, torch, compile (else all)
#   BENCH_ARGS=...      more arguments for them: BENCH_ARGS="--quick --only resnet50 --threads 1"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

VENV := .venv
VENV_TORCH := .venv-torch
VENV_BENCH := .venv-bench
TORCH_VERSION ?= 2.13.0
TORCH_PIP_ARGS ?=
PYTEST_ARGS ?=
SUITE ?=
BENCH_ARGS ?=
WORKERS ?= auto --maxprocesses 4

ifeq ($(OS),Windows_NT)
  BIN := Scripts
else
  BIN := bin
endif

export PYTHON
PY := $(VENV)/$(BIN)/python
PY_TORCH := $(VENV_TORCH)/$(BIN)/python
PY_BENCH := $(VENV_BENCH)/$(BIN)/python
STAMP := $(VENV)/.ready
STAMP_TORCH := $(VENV_TORCH)/.ready
STAMP_BENCH := $(VENV_BENCH)/.peers

# One BLAS thread: the test processes already share the cores, and some tests time or count threads.
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: help demo test test-oracle test-slow test-torch bench speedrun fuzz fuzz-onnx models-table check format wheel clean

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

$(STAMP): pyproject.toml tools/setup_env.sh
	@sh tools/setup_env.sh $(VENV) $(BIN)

$(STAMP_TORCH): pyproject.toml tools/setup_env.sh
	@sh tools/setup_env.sh $(VENV_TORCH) $(BIN) "torch==$(TORCH_VERSION)" $(TORCH_PIP_ARGS)

# A peer that cannot be installed here is no error: its rows in the results say so.
$(STAMP_BENCH): pyproject.toml tools/setup_env.sh bench/peers.txt
	@sh tools/setup_env.sh $(VENV_BENCH) $(BIN) "torch==$(TORCH_VERSION)" $(TORCH_PIP_ARGS) \
	  || sh tools/setup_env.sh $(VENV_BENCH) $(BIN)
	@grep -v '^#' bench/peers.txt | while read -r peer; do \
	  $(PY_BENCH) -m pip install --quiet --disable-pip-version-check "$$peer" \
	    || echo "$$peer cannot be installed here"; \
	done
	@touch $@

demo: $(STAMP) ## the main job from end to end; writes demo/
	$(PY) -m striate.demo

test: $(STAMP) ## the tests and the examples in docstrings; no PyTorch needed
	$(PYTEST) $(PY) -m pytest -n $(WORKERS) -m "not torch and not slow" $(PYTEST_ARGS) tests striate

test-oracle: $(STAMP) ## the same tests of values, with the NumPy interpreter
	STRIATE_BACKEND=numpy $(PYTEST) $(PY) -m pytest -n $(WORKERS) -m "not torch and not slow" $(PYTEST_ARGS) \
	  tests/algebra tests/core tests/errors tests/nn tests/ops tests/optim tests/transform tests/train

test-slow: $(STAMP) ## the long tests
	$(PYTEST) $(PY) -m pytest -m "slow and not torch" $(PYTEST_ARGS) tests

test-torch: $(STAMP_TORCH) ## the comparisons with PyTorch, in an environment of their own
	$(PYTEST) $(PY_TORCH) -m pytest -n $(WORKERS) -m torch $(PYTEST_ARGS) tests/torch

fuzz-onnx: $(STAMP) ## 20,000 damaged ONNX models: N=... SEED=...; writes bench/results/fuzz_onnx.md
	$(PYTEST) STRIATE_NUM_THREADS=1 $(PY) -m tests.onnx.fuzz $(or $(N),20000) $(or $(SEED),0) \
	  --out bench/results/fuzz_onnx.md

bench: $(STAMP_BENCH) ## benchmarks beside PyTorch and others: SUITE=layers BENCH_ARGS=--quick
	$(PY_BENCH) -m bench $(SUITE) $(BENCH_ARGS)

speedrun: $(STAMP_BENCH) ## train a ResNet-9 on CIFAR-10 beside PyTorch: DATA=DIR BENCH_ARGS="--epochs 8"
	$(PY_BENCH) -m bench.cifar10_speedrun --data $(DATA) --out bench/results/cifar10_speedrun.md $(BENCH_ARGS)

fuzz: $(STAMP) ## damaged files by the thousand; the result goes to bench/results/fuzz.md
	$(PY) -m tools.fuzz --out bench/results/fuzz.md

models-table: $(STAMP) ## docs/models.md's tables, measured anew
	$(PY) tools/model_table.py --write

check: $(STAMP) ## formatting, lint, types, layers, sizes of files
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) tools/typecheck.py
	$(PY) -m pytest -q --noconftest tests/test_layering.py
	$(PY) tools/file_sizes.py

format: $(STAMP) ## format the code, apply the linter's safe fixes
	$(PY) -m ruff check --fix-only .
	$(PY) -m ruff format .

wheel: $(STAMP) ## build the wheel into dist/
	$(PY) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

clean: ## remove the environments, the caches and what commands wrote
	rm -rf $(VENV) $(VENV).lock $(VENV_TORCH) $(VENV_TORCH).lock $(VENV_BENCH) $(VENV_BENCH).lock
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find striate tests tools bench -name __pycache__ -type d -prune -exec rm -rf {} +
