# Two commands do everything on a fresh machine: `make sweep` and `make test`. `make` lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
SITE := $(VENV)/site

.DEFAULT_GOAL := help
.PHONY: help sweep ui test quick containers check docs docs-check bench faults clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

sweep: $(VENV)/.run  ## test the article's claim: a few minutes on two cores
	$(BIN)/mnist-ablate sweep normalization

ui: $(VENV)/.run  ## open MLflow's web page with every run
	$(BIN)/mnist-ablate ui

test: quick  ## run all tests: quick ones, then with real servers, in a browser, and slow ones
	$(BIN)/pytest -n 2 --dist loadfile -m "service or browser or slow"

quick: $(VENV)/.test  ## run the quick tests, in about two minutes
	$(BIN)/pytest -n 2 -m "not service and not browser and not slow and not containers"

containers: $(VENV)/.test  ## follow the guide for teams on real containers, and break them; as root
	PYTHON=$(BIN)/python tests/containers/run

check: $(VENV)/.test docs-check  ## check lint, types and the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy mnist_ablate benchmarks

docs: $(VENV)/.test  ## serve the documentation site while you write
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

docs-check: $(VENV)/.test  ## build the documentation site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --site-dir $(abspath $(SITE))

bench: $(VENV)/.test  ## compare whole commands with the usual script
	$(BIN)/python benchmarks/trainer.py

faults: $(VENV)/.test  ## measure the reliability figures in three to five minutes; fails if a promise does not hold
	$(BIN)/python benchmarks/faults.py

clean:  ## remove the environment and all caches; results stay
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable ".[weights]"
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable ".[test]"
	touch $@ $(VENV)/.run
