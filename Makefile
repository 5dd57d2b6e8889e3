# The only needs: make and Python 3.11 or newer. Everything else goes into .venv, from the locks.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-annotate --no-header

# Tests mostly wait for clocks and processes: a few files at once, each with servers of its own.
SPREAD ?= -n 3 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help up demo test check bench chaos lock

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: $(RUNTIME) ## start everything on this machine: private Postgres and Redis, API, worker, beat
	@exec $(BIN)/arbe up

demo: $(RUNTIME) ## watch a turn stream, then a worker being killed and the thread repaired
	@exec $(BIN)/arbe demo

test: $(DEV) ## run all tests against real, private servers
	$(BIN)/python -m pytest $(SPREAD) $(ARGS)

check: $(DEV) ## lint, formatting, both type checkers, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: $(DEV) ## measure against floors of the same run; writes bench.json
	$(BIN)/python -m tests.bench

chaos: $(DEV) ## hurt a whole system at random (ARGS="--help"), let processes die at every step (CRASHES="--help")
	$(BIN)/python -m tests.chaos $(ARGS)
	$(BIN)/python -m tests.crashes $(CRASHES)

lock: $(DEV) ## choose the newest versions that pyproject.toml allows and lock them
	$(COMPILE) --upgrade --extra embedded --group build -o requirements.lock
	$(COMPILE) --upgrade --extra embedded --group build --group dev -c requirements.lock \
		-o requirements-dev.lock

# A stamp is written last: an interrupted installation starts again from nothing.
$(RUNTIME): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit( \
		"arbe-dispatch needs Python 3.11 or newer, and $(PYTHON) is %d.%d.\n" \
		"Name a newer one: make PYTHON=python3.12 …" % sys.version_info[:2])'
	@echo "Installing into $(VENV) (once per lock) …"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make virtual environments; on Debian: apt install python3-venv" >&2; \
		exit 1; }
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(DEV): $(RUNTIME) requirements-dev.lock
	@echo "Installing the tools for tests and checks …"
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@
