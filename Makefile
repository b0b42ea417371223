# `make search` and `make test` do all the set-up; PYTHON=python3.12 chooses another interpreter.
RECENT := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for name in python3 python3.12 python3.11 python3.13; do \
	$$name -c '$(RECENT)' 2>/dev/null && echo $$name && break; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help search test slow check bench clean FORCE

help:
	@echo "make search   install, then search for the best scheme on handwritten digits (about two minutes)"
	@echo "              ARGS='--data cifar10 --trials 4' passes options on"
	@echo "make test     install, then run the tests (make slow: the long proofs)"
	@echo "make check    ruff and mypy"
	@echo "make bench    time schemes against nodepy, networks against pytorchcv's, searches against plain Ray Tune;"
	@echo "              how good the search is (an hour or so)"
	@echo "make clean    remove the virtual environment and what was built"

search: $(VENV)/installed
	$(BIN)/odenas search $(ARGS)

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile $(ARGS)

slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m slow -n auto --dist loadfile $(ARGS)

check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed-bench
	$(BIN)/python tests/bench/schemes.py $(ARGS)
	$(BIN)/python tests/bench/networks.py $(ARGS)
	$(BIN)/python tests/bench/memory.py $(ARGS)
	$(BIN)/python tests/bench/training_loop.py $(ARGS)
	$(BIN)/python tests/bench/scheduling.py $(ARGS)
	$(BIN)/python tests/bench/search_quality.py $(ARGS)

clean:
	rm -rf $(VENV) build *.egg-info

# The strict editable install links file by file, so a new file or another version of the project asks for a new one.
$(VENV)/files: FORCE
	@$(or $(PYTHON),false) -c '$(RECENT)' 2>/dev/null || \
		{ echo "make: \`$(PYTHON)\` is no Python 3.11 or newer; name one: make PYTHON=..." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@{ cat pyproject.toml; ls space nets results search; test -d build || echo rebuilt; } | cmp -s - $@ || \
		{ cat pyproject.toml; ls space nets results search; } > $@

$(VENV)/installed: $(VENV)/files
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/files
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-bench: $(VENV)/files
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@touch $@ $(VENV)/installed
