# `make demo` and `make test` do all their set-up. VENV names the virtual environment, PYTHON what makes it, and
# WORKERS says how many processes run the tests, each with all frameworks in memory (about 4 GB), RESULTS where
# benchmarks leave theirs.

VENV ?= .venv
PYTHON ?= python3
WORKERS ?= 2
BIN := $(VENV)/bin
RESULTS ?= build/benchmarks
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
EXTRAS := examples,test,lint,bench

# What is installed in the environment, and which checkout it runs.
INSTALLED := $(VENV)/.installed
LINKED := build/linked-$(subst /,_,$(abspath $(VENV)))

.PHONY: help setup data demo demo-jax demo-keras study study-quick test test-all bench bench-all bench-cuda bench-check lint format clean

help:
	@echo "make demo      pretrain by S2R2, SimCLR and SwAV on Fashion-MNIST and compare them (3 minutes)"
	@echo "make demo-jax  the same with the JAX trainer; make demo-keras with the Keras trainer"
	@echo "make study     tune and compare eleven methods over many seeds, on objects and on scenes (3 hours);"
	@echo "               make study-quick is the same with few short runs (10 minutes)"
	@echo "make test      run every test but the long ones"
	@echo "make test-all  run the long ones too"
	@echo "make bench     compare speed and memory with other libraries (10 minutes), then"
	@echo "make bench-check  tell whether anything became slower than docs/benchmarks.md says"
	@echo "make bench-all every benchmark: some hours, goes on where it was stopped"
	@echo "make lint      check style and types, on the built wheel"
	@echo "make format    bring the code into its form"

setup: $(LINKED)

$(INSTALLED): pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (once, some minutes and gigabytes: PyTorch and others) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rankloss needs Python 3.11 or newer")'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) setuptools wheel
	@$(PIP) --no-build-isolation --editable '.[$(EXTRAS)]'
	@touch $@

$(LINKED): $(INSTALLED)
	@$(PIP) --no-build-isolation --no-deps --editable .
	@mkdir -p $(@D) && touch $@

# Debian's package where we may install it; else the demo has torchvision download the pictures.
data:
	@if [ ! -d /usr/share/datasets/fashion-mnist ] && [ -f /etc/debian_version ] && [ "$$(id -u)" = 0 ]; then \
	    echo "Installing Debian's package dataset-fashion-mnist ..."; \
	    { apt-get -qq update && apt-get -qq install -y dataset-fashion-mnist; } >/dev/null 2>&1 || true; fi

demo: $(LINKED) data
	@$(BIN)/python examples/demo.py

demo-jax demo-keras: demo-%: $(LINKED) data
	@$(BIN)/python examples/demo.py --framework $*

study: $(LINKED) data
	@$(BIN)/python examples/study.py small

study-quick: $(LINKED) data
	@$(BIN)/python examples/study.py quick

test: $(LINKED)
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile -m "not long"

test-all: $(LINKED)
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile --hypothesis-profile=thorough

BENCHMARK = $(BIN)/python -m pytest benchmarks --benchmark-enable --benchmark-group-by=group \
    --benchmark-columns=median,iqr,rounds --results $(RESULTS)

bench: $(LINKED)
	$(BENCHMARK) -m quick --seconds 2
	$(BIN)/python benchmarks/memory.py --results $(RESULTS) --rows 4096 --ways PyTorch JAX "TensorFlow XLA"
	$(BIN)/python benchmarks/accuracy.py --results $(RESULTS)
	$(BIN)/python benchmarks/report.py --results $(RESULTS)

# RESULTS=benchmarks/results makes what docs/benchmarks.md shows.
bench-all: $(LINKED)
	$(BENCHMARK) --resume
	$(BIN)/python benchmarks/memory.py --results $(RESULTS) --resume
	$(BIN)/python benchmarks/accuracy.py --results $(RESULTS)
	$(BIN)/python benchmarks/report.py --results $(RESULTS)

# PyTorch and JAX on a GPU, and memory there is not measured.
bench-cuda: RESULTS = build/benchmarks/cuda
bench-cuda: $(LINKED)
	RANKLOSS_BENCH_DEVICE=cuda $(BENCHMARK) -k "rows and (PyTorch or JAX)" --resume

bench-check: $(LINKED)
	$(BIN)/python benchmarks/compare.py --new $(RESULTS)

# Types are checked as users get them: backends/torch must never be importable as `torch`.
lint: $(LINKED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/lint build/lib && $(PIP) --no-build-isolation --no-deps --target build/lint .
	cd build/lint && MYPYPATH= $(abspath $(BIN))/mypy --strict -p rankloss

format: $(LINKED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build dist runs *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
