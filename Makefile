# `make demo` shows Gazelake; `make test` checks and tests everything; `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUNS ?= runs

.PHONY: help demo dashboard check test unit browser bench screenshots constraints clean

help:
	@grep -hE '^# [a-z]+:' $(MAKEFILE_LIST) | sed 's/^# /  make /'

# demo: install, draw the demo's images, train, explain, find and prove shortcuts, open the dashboard
demo: $(VENV)/.installed
	$(BIN)/python -m engine demo --out $(RUNS)/demo

# dashboard: open the dashboard over $(RUNS)
dashboard: $(VENV)/.installed
	$(BIN)/python -m dashboard serve $(RUNS)

# check: style, types, and the walls between the rooms
check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# test: every check and every test, browser tests included
test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

# bench: the benchmarks, contenders alternating, as ratios
bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.all

# screenshots: photograph every page of the demo for the README
screenshots: $(VENV)/.installed-dev
	$(BIN)/python -m docs.screenshots

# constraints: write down the versions that are installed as the tested ones
constraints: $(VENV)/.installed-dev
	$(BIN)/uv pip freeze --python $(BIN)/python | grep -vE '^(nvidia-|cuda-|triton|uv=|-e )' > constraints.txt

$(VENV)/bin/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.installed: requirements.txt dashboard/requirements.txt constraints.txt | $(VENV)/bin/uv
	$(BIN)/uv pip install --python $(BIN)/python -r requirements.txt -c constraints.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(BIN)/uv pip install --python $(BIN)/python -r requirements-dev.txt -c constraints.txt
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
