# opskit: every target sets up what it needs by itself, in .venv, and is quick the second time.
# `make` alone lists them.

PYTHON ?= python3
SCALE ?= 1
WORKERS ?= 3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
OPSKIT := $(BIN)/opskit

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo lab test test-all check compiled images bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: $(VENV)/demo.stamp ## a PostgreSQL with data: backed up, listed, downloaded and restored, in ./demo
	@mkdir -p demo
	@cd demo && set -e; opskit() { printf '\n$$ opskit %s\n' "$$*"; "$(OPSKIT)" "$$@"; }; \
	opskit demo; \
	opskit runbook run scheduled_backup main; \
	opskit backups main; \
	opskit download main latest; \
	opskit runbook run local_restore main; \
	opskit runbook run repository_health main; \
	printf '\nThree executed runbooks are there to read, each as a notebook and as a page for a browser:\n'; \
	for name in scheduled_backup local_restore repository_health; do \
		echo "  $$(ls "$$PWD"/reports/main/*/*/*-$$name.html | tail -n 1)"; done; \
	printf 'and a page on all of them:\n  %s\n' "$$PWD/reports/index.html"; \
	printf 'Next: "make lab" opens the notebooks; "cd demo && %s/opskit --help" shows the command;\n' "../$(VENV)/bin"; \
	printf 'README.md and docs/guide.md tell the rest.\n'

lab: $(VENV)/demo.stamp ## JupyterLab on the notebooks, with the demo's PostgreSQL
	@mkdir -p demo && cd demo && "$(OPSKIT)" demo && exec "$(OPSKIT)" lab

test: check compiled ## style, types, floors and every test: what CI runs
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not sweep" --durations=10

test-all: check compiled ## the same with the long random sweeps
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

check: $(VENV)/dev.stamp ## style, types and floors only
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

images: $(VENV)/dev.stamp ## the documentation's pictures of the panels, taken anew
	OPSKIT_TEST_IMAGES="$(CURDIR)/docs/images" $(BIN)/python -m pytest tests/notebooks/test_looks.py -k panels

# The tests start opskit hundreds of times. Where it may not keep what it compiles, each start would compile it again.
compiled: $(VENV)/dev.stamp
	$(BIN)/python -m compileall -q opskit

bench: $(VENV)/dev.stamp ## speed, memory and size beside PostgreSQL's tools, pgBackRest, Barman; SCALE=1,10 is 0.3 and 3 GB
	$(BIN)/python -m bench --scale $(SCALE)

clean: ## remove what the targets made, but for ./demo and the virtual environment
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find opskit tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is younger than pyproject.toml when the environment is what it asks for.
$(VENV)/created.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "opskit needs Python 3.11 or later; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ echo "this Python makes no virtual environments; install what is missing: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/demo.stamp: pyproject.toml | $(VENV)/created.stamp
	@echo "installing opskit and what it needs into $(VENV) (a minute or two, once)"
	@$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/created.stamp
	@echo "installing opskit and the tools of its developers into $(VENV) (a minute or two, once)"
	@$(BIN)/python -m pip install --quiet --editable '.[demo,dev]'
	@touch $@
