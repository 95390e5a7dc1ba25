# `make quickstart` and `make test` set everything up on a fresh machine with Python >= 3.11.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# where it is set, every test worker and every command would compile all modules again
unexport PYTHONDONTWRITEBYTECODE

.PHONY: quickstart test check smoke docs install clean

install: $(VENV)/installed

# pip would compile all modules of all packages, which takes a minute; few of them are ever imported
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"error: Python {sys.version.split()[0]} found, 3.11 or newer needed; name one: make PYTHON=python3.12 ...")'
	@echo "Making a virtual environment in $(VENV) ..."
	$(PYTHON) -m venv $(VENV)
	@echo "Installing PyTorch, Ray and the rest: about 5 GB to download, 7 GB unpacked, a minute on a"
	@echo "fast machine and network, half an hour on slow ones. The next lines say what comes."
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@

quickstart: install
	@echo "Starting (the first import of PyTorch and Ray takes up to a minute on a slow disk) ..."
	$(BIN)/rewind-ray quickstart

# on all cores; a file's tests stay together, because they share what they train
test: install
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --max-worker-restart 0 $(PYTEST_ARGUMENTS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy rewind_ray analysis sweeps trainables

# every recipe with a tiny network and little data, one seed
smoke: install
	$(BIN)/rewind-ray smoke

# the documentation as a site, in build/site; any warning is an error
docs: install
	$(BIN)/python -m sphinx -W --keep-going --quiet -b html docs build/site
	@echo "build/site/index.html"

clean:
	rm -rf $(VENV) build *.egg-info
