# `make demo` and `make test` need Python 3.11 and make; the first run installs what else there is, the next is quick.
# The tests of the pages open them in Chromium. Where there is none, they are left out, and one line says so;
# `make test NCSCAN_BROWSER=required` insists on one, as CI does, and NCSCAN_BROWSER may be the path of one.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-formats browser lint docs clean

demo: $(VENV)/.demo
	rm -rf ncscan-out
	$(BIN)/ncscan extract sample_data/trajectories --layers all
	$(BIN)/ncscan report

test: browser lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Checkpoints as lightning, transformers, accelerate, timm, peft and torch write them; installs these first.
test-formats: $(VENV)/.formats
	$(BIN)/python -m pytest tests/formats -n 2

browser: $(VENV)/.test
	$(BIN)/python tests/browser/finding.py

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.test
	$(BIN)/python -c 'from ncscan.catalogue_doc import document; print(document(), end="")' > docs/metrics.md
	$(BIN)/python -c 'from ncscan.report.json_schema import report_schema, text; print(text(report_schema()), end="")' > docs/report.schema.json
	$(BIN)/python -c 'from ncscan.report.json_schema import summary_schema, text; print(text(summary_schema()), end="")' > docs/summary.schema.json

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ncscan needs Python 3.11 or newer; say which: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.demo

$(VENV)/.formats: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[formats]'
	touch $@ $(VENV)/.test $(VENV)/.demo

clean:
	rm -rf $(VENV) ncscan-out build dist
