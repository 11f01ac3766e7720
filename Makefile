# make demo   five real nodes on this machine, a leader killed in mid-round, the paper's tables
# make test   everything that needs no root: ruff, mypy --strict, all tests
# make soak   100,000 simulated histories of consensus, each with its own faults; about ten minutes on 2 cores
# make mutations   breaks the code on purpose in 159 ways, and fails if no check notices one; about 12 minutes
# make fuzz   each parser of foreign bytes under a coverage-guided fuzzer for ten minutes; 20 of them, so 3 h 20 min

PYTHON ?= $(shell command -v python3.11 || command -v python3.12)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UPSTREAM := $(VENV)/upstream

.DEFAULT_GOAL := help
.PHONY: help setup demo test soak mutations fuzz lint lock clean

help:
	@sed -n '1,5s/^# //p' Makefile

setup: $(READY)

# PyTorch first and pinned: whatever else asks for torch then finds it, and pulls in no other build of it.
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or 3.12 is needed; name it with PYTHON=/path/to/python" >&2; exit 1; }
	@echo "setting up $(VENV) with $$($(PYTHON) --version); PyTorch is large, this takes some minutes"
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	@touch $(READY)

demo: $(READY)
	@$(BIN)/p2pfl-node demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --strict packaging/rpm

# Upstream of the consensus core, for the one test that runs it: apart from the dependencies, as it is none.
$(UPSTREAM)/raftos: | $(READY)
	$(BIN)/python -m pip install --quiet --no-deps --target $(UPSTREAM) raftos==0.2.6 \
		|| echo "make: raftos 0.2.6 can't be had; the test that runs it is skipped" >&2

test: lint $(UPSTREAM)/raftos
	$(BIN)/pytest

soak: $(READY)
	$(BIN)/python -m tests.simulation.consensus.chaos --seeds 100000 --processes 2

mutations: $(READY)
	$(BIN)/python -m tests.mutations

fuzz: $(READY)
	$(BIN)/python -m tests.fuzz --all --seconds 600

# Writes the newest versions that pyproject.toml allows, as installed now, into constraints.txt.
lock: $(READY)
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//'; } > constraints.new
	@mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
