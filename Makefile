# `make demo` needs Python 3.11 and make, nothing else; `make test` also Chromium and npm, for the pages in a real browser.
# The first run installs, the next is quick.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
AXE := axe-core@4.14.1

.PHONY: demo test lint docs clean

demo: $(VENV)/.demo
	rm -rf ncscan-out
	$(BIN)/ncscan extract sample_data/trajectories --layers all
	$(BIN)/ncscan report

test: lint $(VENV)/axe/package/axe.min.js
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.test
	$(BIN)/python -c 'from ncscan.report.document import document; print(document(), end="")' > docs/metrics.md
	$(BIN)/python -c 'from ncscan.report.schema import report_schema, text; print(text(report_schema()), end="")' > docs/report.schema.json
	$(BIN)/python -c 'from ncscan.report.schema import summary_schema, text; print(text(summary_schema()), end="")' > docs/summary.schema.json

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ncscan needs Python 3.11 or newer; say which: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.demo

$(VENV)/axe/package/axe.min.js: | $(BIN)/python
	mkdir -p $(VENV)/axe
	cd $(VENV)/axe && tar xzf "$$(npm pack --silent $(AXE))"

clean:
	rm -rf $(VENV) ncscan-out build dist
