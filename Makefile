# make demo   five real nodes on this machine, a leader killed in mid-round, the paper's tables
# make test   everything that needs no root: ruff, mypy --strict, all tests
# make test-system   the packages in five guests with systemd, dnf and firewalld; as root, about twenty minutes
# make soak   100,000 simulated histories of consensus, each with its own faults; about ten minutes on 2 cores
# make mutations   breaks the code on purpose in 196 ways, and fails if no check notices one; about 15 minutes
# make fuzz   each parser of foreign bytes under a coverage-guided fuzzer for ten minutes; 20 of them, so 3 h 20 min
# make rpm    the packages for RHEL 8, in dist/, and rpmlint on them; needs rpmbuild (packaging/rpm/README.md)
# make repo KEY=...   a dnf repository of them in dist/repo, signed with that key of gpg

PYTHON ?= $(shell command -v python3.11 || command -v python3.12)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UPSTREAM := $(VENV)/upstream
KEY ?= $(P2PFL_SIGNING_KEY)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-system soak mutations fuzz lint lock rpm repo clean

help:
	@sed -n '1,8s/^# //p' Makefile

setup: $(READY)

# PyTorch first and pinned: whatever else asks for torch then finds it, and pulls in no other build of it.
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or 3.12 is needed; name it with PYTHON=/path/to/python" >&2; exit 1; }
	@echo "setting up $(VENV) with $$($(PYTHON) --version); PyTorch is large, this takes some minutes"
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,reports]"
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

# Root, and the packages of tests/system/packages.txt; keeps what it builds in .system/.
test-system: $(READY)
	@$(BIN)/python -m tests.system

mutations: $(READY)
	$(BIN)/python -m tests.mutations

fuzz: $(READY)
	$(BIN)/python -m tests.fuzz --all --seconds 600

# Writes the newest versions that pyproject.toml allows, as installed now, into constraints.txt; then what of them the
# RPM bundles.
lock: $(READY)
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//'; } > constraints.new
	@mv constraints.new constraints.txt
	$(BIN)/python packaging/rpm/lock.py

# What the RPM bundles is downloaded once, and checked against the lock file's checksums each time.
rpm: $(READY)
	PYTHON=$(BIN)/python packaging/rpm/build-rpm --wheels dist/wheels --out dist
	@rpmlint --version 2>/dev/null | grep -q '^2' || { echo "make: there is no rpmlint 2, so the packages were not checked by it" >&2; exit 0; }; \
		rpmlint --config packaging/rpm/rpmlint.toml dist/p2pfl-node*-"$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)"-*.rpm

repo:
	packaging/rpm/make-repo --key "$(KEY)" --rpms dist --out dist/repo

clean:
	rm -rf $(VENV) .bench build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
