# `make` prints the targets. Two environments, each made from nothing by pip and made again whenever
# setup.py or constraints.txt change: .venv runs the toolkit, .venv-test checks and tests it.

PYTHON ?= python3
PYTEST_ARGS ?=
# Processes that run tests; each takes the tests of whole files.
PYTEST_WORKERS ?= auto
# One environment holds about 6.5 GB, nearly all of it torch and its CUDA libraries.
ENV_GIGABYTES ?= 8

VENV := .venv
TEST_VENV := .venv-test
ENV_SOURCES := setup.py constraints.txt
BENCHMARKS := $(sort $(wildcard tools/benchmark/*.py))

.DEFAULT_GOAL := help
.PHONY: help demo demo-seg test check bench clean

help:  ## print this list
	@echo "usage: make TARGET [PYTHON=python3.12] [PYTEST_ARGS='-k triplet']"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1@\2/p' $(MAKEFILE_LIST) | awk -F@ '{printf "%-10s%s\n", $$1, $$2}'

demo: $(VENV)/.made  ## from nothing to pictures: makes .venv, then runs tools/demo.py
	$(VENV)/bin/python tools/demo.py

demo-seg: $(VENV)/.made-seg  ## the same for segmentation: drawn streets, two networks, a report
	$(VENV)/bin/python tools/demo.py seg

test: $(TEST_VENV)/.made  ## all tests but the slow ones, in .venv-test
	$(TEST_VENV)/bin/python -m pytest -n $(PYTEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

check: $(TEST_VENV)/.made  ## ruff, mypy and the import rules, in .venv-test
	$(TEST_VENV)/bin/ruff check .
	$(TEST_VENV)/bin/ruff format --check .
	$(TEST_VENV)/bin/mypy
	$(TEST_VENV)/bin/python -m pytest tests/test_architecture.py

bench: $(TEST_VENV)/.made  ## every script of tools/benchmark, one after the other
	@set -e; for script in $(BENCHMARKS); do \
		echo "== $$script"; $(TEST_VENV)/bin/python "$$script"; \
	done

clean:  ## remove both environments, build leftovers and caches (data and results stay)
	rm -rf $(VENV) $(TEST_VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made: $(ENV_SOURCES)
	$(call make-env,$(VENV),.)

# .venv with the seg extra; what is there stays
$(VENV)/.made-seg: $(VENV)/.made
	$(VENV)/bin/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[seg]'
	@touch $@

$(TEST_VENV)/.made: $(ENV_SOURCES)
	$(call make-env,$(TEST_VENV),'.[dev$(comma)seg]')

comma := ,

# $(1) the environment's folder, $(2) what pip installs. The stamp comes last: a making that was
# interrupted starts again from nothing.
define make-env
@command -v $(PYTHON) >/dev/null || { \
	echo "error: $(PYTHON) was not found; install Python 3.10 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1), this needs 3.10 or newer; name one: make PYTHON=python3.11" >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	echo "error: $(PYTHON) cannot make environments; on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
@rm -rf $(1)
@free=$$(df -Pk . | awk 'NR == 2 {print int($$4 / 1048576)}'); test "$$free" -ge $(ENV_GIGABYTES) || { \
	echo "error: $(1) needs $(ENV_GIGABYTES) GB, $$free GB are free here; make room, or lower ENV_GIGABYTES" >&2; exit 1; }
@echo "Making $(1) (about 6.5 GB, minutes: most of it is the download of torch)"
$(PYTHON) -m venv $(1)
$(1)/bin/python -m pip install --disable-pip-version-check -c constraints.txt -e $(2)
@touch $(1)/.made
endef
