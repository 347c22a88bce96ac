# make demo   embed real sentences with a real model through torch.compile; leaves build/demo/
# make test   the fast tier, then the slow one (pytest -m exhaustive: hours, by hand)
# make lint   ruff and mypy
# make search compile 2,000 random graphs and compare them with eager; leaves benchmarks/results/search.json
# make opdb   run every sample of PyTorch's operator database (~half an hour); leaves benchmarks/results/operators.json
#              and docs/operators.md. Stopped, it goes on with: make opdb OPDB=--resume
# make bench  time models against eager and Inductor; leaves benchmarks/results/ and docs/performance.md
# make coverage  what becomes of every family of models; leaves benchmarks/results/coverage.json and docs/models.md
#
# Each makes .venv by itself. They need Python 3.11 or 3.12, a C++ compiler and a package index.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= $(firstword $(foreach p,python3.12 python3.11 python3,$(shell \
	$(p) -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $(p))))
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
TYPES := build/types
TORCH := torch==2.13.0

.PHONY: demo test test-fast test-slow lint bench coverage opdb search clean

demo: $(INSTALLED)
	$(RUN) examples/demo.py
	$(VENV)/bin/tilewright run build/demo/minilm.tw

test: test-fast test-slow

# A worker for each core; the tests of a file stay together, because they share what was compiled for them.
PYTEST := OMP_WAIT_POLICY=passive $(RUN) -m pytest tests -n auto --dist loadfile

test-fast: $(INSTALLED)
	$(PYTEST) -m "not slow and not gpu"

test-slow: $(INSTALLED)
	$(PYTEST) -m "slow and not gpu"

search: $(INSTALLED)
	$(RUN) tests/search.py --graphs 2000 --json benchmarks/results/search.json

lint: $(INSTALLED)
	$(RUN) -m ruff check .
# The package's folders stand at the root under other names; mypy sees them where Python imports them from.
	rm -rf $(TYPES) && mkdir -p $(TYPES)/tilewright
	ln -s $(CURDIR)/compiler/* $(CURDIR)/ir $(CURDIR)/passes $(CURDIR)/codegen $(CURDIR)/autotune $(TYPES)/tilewright/
	cd $(TYPES) && $(CURDIR)/$(RUN) -m mypy --config-file $(CURDIR)/pyproject.toml -p tilewright

bench: $(INSTALLED)
	$(RUN) benchmarks/models.py
	$(RUN) benchmarks/page.py

# In a folder whose tests import one another by their names.
opdb: $(INSTALLED)
	cd tests && ../$(RUN) -W ignore -m operators --results ../benchmarks/results/operators.json $(OPDB)
	cd tests && ../$(RUN) -W ignore -m operators --page

coverage: $(INSTALLED)
	$(RUN) -W ignore benchmarks/model_coverage.py

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache

# Installed again only when pyproject.toml has changed. torch comes first and by version: every number depends on it.
$(INSTALLED): pyproject.toml
	$(if $(PYTHON),,$(error Python 3.11 or 3.12 with venv is needed; set PYTHON=/path/to/python3.12))
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -c 'import torch' 2>/dev/null || $(RUN) -m pip install --quiet "$(TORCH)"
	$(RUN) -m pip install --quiet -e ".[test,lint]"
	touch $@
