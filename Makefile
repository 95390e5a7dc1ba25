# `make quickstart` and `make test` set everything up on a fresh machine with Python >= 3.11.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# where it is set, every test worker and every command would compile all modules again
unexport PYTHONDONTWRITEBYTECODE

.PHONY: quickstart test check smoke install clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"error: Python {sys.version.split()[0]} found, 3.11 or newer needed; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

quickstart: install
	$(BIN)/python -m sweeps.quickstart

# on all cores; a file's tests stay together, because they share what they train
test: install
	$(BIN)/python -m pytest -n auto --dist loadfile --max-worker-restart 0 $(PYTEST_ARGUMENTS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy rewind_ray analysis sweeps trainables

# every recipe with a tiny network and little data, one seed
smoke: install
	$(BIN)/python -m sweeps smoke

clean:
	rm -rf $(VENV) build *.egg-info
