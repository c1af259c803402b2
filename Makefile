PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

FAULTS := $(CURDIR)/.faults.jsonl

# Tests are compiled once, and not again in each process.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install tune test test-fast test-random snapshots chaos lint bench clean

tune: $(INSTALLED)  ## tune the example: digits with ASHA and Optuna
	$(BIN)/tune-jobs run examples/digits.yaml

install: $(INSTALLED)  ## .venv with the pinned dependencies

# Most slow tests wait: for a process to start, for an outage to end, for a lost machine to be noticed.
test: $(INSTALLED_DEV)  ## the whole suite, four files at a time
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder --durations 20

snapshots: $(INSTALLED_DEV)  ## record the user-facing messages again, after you change their words
	UPDATE_SNAPSHOTS=1 $(BIN)/python -m pytest -q tests/messages

test-fast: $(INSTALLED_DEV)  ## the tests that take less than a minute together
	$(BIN)/python -m pytest -n 3 --dist worksteal -m "not slow"

# All workers of a call need the same seed; pytest prints it, and SEED=7 repeats an order.
test-random: SEED ?= $(shell date +%s)
test-random: $(INSTALLED_DEV)  ## the whole suite in random order
	$(BIN)/python -m pytest -n 4 --dist loadfile --random-order --random-order-seed=$(SEED)

chaos: $(INSTALLED_DEV)  ## inject all faults; takes more than an hour, and prints a table of the results
	rm -f $(FAULTS)
	TUNE_JOBS_CHAOS=1 TUNE_JOBS_CHAOS_TABLE=$(FAULTS) $(BIN)/python -m pytest tests/faults; \
	status=$$?; $(BIN)/python -m tests.faults.table $(FAULTS); exit $$status

lint: $(INSTALLED_DEV)  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(INSTALLED_DEV)  ## measure, side by side; takes about an hour
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(FAULTS) $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The constraints pin torch before another package can ask for a different build of it.
$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(INSTALLED_DEV): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
