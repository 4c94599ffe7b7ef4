# Everything a person types. Each target is enough by itself after a clone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test unit real check fmt bench docs lock soak clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null || \
	 sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1   \2/p' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	 { echo "derpmesh needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	 { rm -rf $(VENV); echo "could not make $(VENV); on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(VENV)/.run: requirements/run.txt pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV) ..." >&2
	@$(PIP) --require-hashes -r requirements/run.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	@echo "installing the tools of developers ..." >&2
	@$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

demo: $(VENV)/.run ## Run three nodes on loopback, relay real packets, print the map
	@$(BIN)/derpctl demo

test: $(VENV)/.dev ## Run every test that can run on this machine
	@$(BIN)/python -m tests.run

unit: $(VENV)/.dev ## Run the tests that need nothing but Python
	@$(BIN)/python -m tests.run unit

real: $(VENV)/.dev ## Run the tests with real peers and compiled loads
	@$(BIN)/python -m tests.run real

check: $(VENV)/.dev ## Format, lint, import and type checks
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/ruff check --quiet
	@$(BIN)/lint-imports --no-cache > $(VENV)/imports.log || { cat $(VENV)/imports.log; exit 1; }
	@$(BIN)/mypy
	@echo "all checks passed"

fmt: $(VENV)/.dev ## Format and mend what can be mended
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

bench: $(VENV)/.dev ## Measure our node beside Go derper, in one table
	@$(BIN)/python -m tests.bench

soak: $(VENV)/.dev ## Run fuzzers and soaks at full length
	@$(BIN)/python -m tests.run soak

docs: $(VENV)/.dev ## Write the generated pages of docs/reference anew
	@$(BIN)/python -m tests.support.docs

lock: $(VENV)/bin/python ## Resolve requirements anew, with hashes
	@$(PIP) uv
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate \
	 --python-version 3.11 --custom-compile-command "make lock" \
	 pyproject.toml requirements/build.in -o requirements/run.txt
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate \
	 --python-version 3.11 --custom-compile-command "make lock" \
	 pyproject.toml requirements/build.in --group dev -c requirements/run.txt -o requirements/dev.txt

clean: ## Remove the virtual environment and caches
	@rm -rf $(VENV) .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
