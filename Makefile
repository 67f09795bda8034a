# Every target first installs the packages into .venv, once, and again when requirements.lock changes.

PYTHON ?= python3
PORT ?= 5000
JOBS ?= $(shell nproc 2>/dev/null || echo 1)
OF_EXPERIMENT = $(if $(EXPERIMENT),--experiment '$(EXPERIMENT)')
given = $(if $(filter file,$(origin $(1))),,$(2) $($(1))) # an option, where the caller has set its variable
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
FLOCK := $(if $(shell command -v flock),flock $(VENV))
export PATH := $(abspath $(BIN)):$(PATH)
unexport PYTHONSAFEPATH # with it, `python -m` does not find the packages of this folder

.DEFAULT_GOAL := help
.PHONY: help install repro experiment test test-fast lint check ui demo schedule unschedule

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## install the packages of requirements.lock into .venv

repro: $(INSTALLED)  ## run all stale stages, JOBS at a time (default: GPUs, or else cores); of EXPERIMENT=... for another one
	@python -m pipelines.experiment $(OF_EXPERIMENT) $(call given,JOBS,--jobs)

experiment: $(INSTALLED)  ## make a folder experiments/NAME for an experiment of NAME=..., which begins as FROM=... is
	@python -m stages.params --new '$(NAME)' $(if $(FROM),--from '$(FROM)')

test: $(INSTALLED)  ## run all tests, JOBS + 1 files at a time, since some wait for servers
	@python -m pytest --numprocesses $$(($(JOBS) + 1)) --dist loadfile --no-loadscope-reorder

test-fast: $(INSTALLED)  ## run the tests that start no server, no clone and no other program, in about a minute
	@python -m pytest --numprocesses $(JOBS) -m "not programs"

lint: $(INSTALLED)  ## check style, types, import layers and params.yaml
	@ruff check .
	@ruff format --check .
	@basedpyright
	@lint-imports
	@python -m stages.params --check

check: $(INSTALLED)  ## check that reports/ matches the results, or else dvc.lock; of EXPERIMENT=... for another one
	@python -m stages.report $(OF_EXPERIMENT) --check

ui: $(INSTALLED)  ## sync MLflow with DVC, every experiment, and serve it on http://127.0.0.1:5000, or on PORT=...
	@python -c 'from stages.runtime.ports import exit_if_taken as check; check($(PORT), "make ui")'
	-@MLFLOW_TRACKING_URI= python -m pipelines.sync --ui http://127.0.0.1:$(PORT)
	@echo "MLflow starts on port $(PORT); Ctrl-C ends it"
	@exec mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port $(PORT) --workers 1

demo: $(INSTALLED)  ## serve a page to try trained models, on http://127.0.0.1:8050 or PORT=...; EXPERIMENT=... as for check
	@python -m stages.demo $(OF_EXPERIMENT) $(call given,PORT,--port)

schedule: $(INSTALLED)  ## start Prefect's server, on http://127.0.0.1:4200 or PORT=..., a worker and the schedules
	@python -m pipelines.schedule up $(call given,PORT,--port)

unschedule: $(INSTALLED)  ## stop the server, the worker and their flow runs
	@python -m pipelines.schedule down

# One install at a time. The stamp is written last, so that an interrupted install is repeated. As constraints, the
# versions hold for extras too: without, pip tries ten versions of sqlalchemy[asyncio]. The .pth file sets the
# switches of stages/runtime/startup.py for every program of the environment.
$(INSTALLED): requirements.lock stages/runtime/startup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@mkdir -p $(VENV) && $(FLOCK) $(MAKE) --no-print-directory locked-install

.PHONY: locked-install
locked-install:
	@if [ ! $(INSTALLED) -nt requirements.lock ] || [ ! $(INSTALLED) -nt stages/runtime/startup.py ]; then \
		set -e; echo "installing the packages of requirements.lock into $(VENV), once"; \
		rm -f $(INSTALLED); \
		$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV); \
		( $(BIN)/python -u -m pip install --disable-pip-version-check --progress-bar off -r requirements.lock -c requirements.lock \
			|| echo failed ) | while read -r step what; do case "$$step $$what" in \
				"Collecting "*|"Processing "*) number=$$((number + 1)); [ $$((number % 50)) -ne 0 ] || echo "  $$number packages found";; \
				"Downloading "*MB\)|"Using cached "*MB\)) echo "  $$what";; \
				"Installing collected "*) echo "  $$number packages found; unpacking them takes a minute or two";; \
				"failed "*) exit 1;; \
			esac; done; \
		$(BIN)/python -m pip check; \
		$(BIN)/python -c 'import sysconfig; from pathlib import Path; from stages.runtime.startup import SWITCHES; \
			line = f"import os; [os.environ.setdefault(*pair) for pair in {list(SWITCHES.items())}]\n"; \
			Path(sysconfig.get_path("purelib"), "switches.pth").write_text(line)'; \
		touch $(INSTALLED); \
	fi
