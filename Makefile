# Two commands: `make demo` and `make test`. Both work on a fresh machine with Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# python compiles what it imports, once, if it may write: compiling all 25,000 files takes a minute or two
PIP := --quiet --disable-pip-version-check --no-compile -c constraints.txt
unexport PYTHONDONTWRITEBYTECODE
export HF_HUB_OFFLINE = 1

.PHONY: demo test suite lint types bench organism probes clean

demo: $(READY)  ## the whole experiment on the embedded model; prints where the report is
	$(BIN)/interp demo

test: $(READY)  ## every test; types are checked beside them
	$(MAKE) --no-print-directory --jobs 2 lint types suite

suite: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --timeout 900 --nbmake notebooks tests

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/pyright -p . --pythonpath $(BIN)/python

bench: $(READY)  ## print the benchmark tables (docs/speed.md); nnsight is compared where it is installed
	for name in capture corpora generation; do $(BIN)/python benchmarks/$$name.py; done

organism: $(READY)  ## measure the embedded model against its bars
	$(BIN)/interp organism evaluate

probes: $(READY)  ## fit the committed probes again
	for recipe in probes/*/recipe.toml; do $(BIN)/interp probe $$recipe; done

clean:
	rm -rf .venv runs activations/*/ .pytest_cache .ruff_cache

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "interp needs Python 3.11 or newer"'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(PIP) torch
	$(BIN)/python -m pip install $(PIP) -e '.[dev]'
	touch $@
