# `make demo` shows the main job, `make test` proves it; both do all set-up themselves (docs/how-to/develop.md).
SHELL := /bin/bash -o pipefail
PY := .venv/bin/python
PYTEST := $(PY) -m pytest
E2E := $(PYTEST) e2e -p no:cacheprovider

.DEFAULT_GOAL := help
.PHONY: help demo test test-full lint unit loaders api e2e e2e-full bench failures clean clean-all generate lock

help: ## Show the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.ready: constraints.txt pyproject.toml
	@echo "== Python environment (.venv)"
	@python3 -c 'import ensurepip' 2>/dev/null || (apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv)
	@test -x $(PY) || python3 -m venv .venv
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: .venv/.ready ## From nothing to an answer: cluster, operator, OmniDeployment, chat, WAV
	@$(PY) -m e2e.demo

test: unit loaders api e2e ## All tests that CI runs

test-full: RECONCILE = --sizes 20 --rounds 1 --steady-seconds 30
test-full: unit loaders api e2e-full bench ## All tests: also every real-engine case, all random moments, a short bench

lint: .venv/.ready ## ruff, mypy, pyright, layers, spelling, generated files
	@.venv/bin/ruff format --check -q .
	@.venv/bin/ruff check -q .
	@.venv/bin/mypy
	@.venv/bin/pyright --warnings | tail -n 1
	@.venv/bin/lint-imports | tail -n 3
	@git ls-files | xargs .venv/bin/codespell
	@$(PY) hack/generate.py --check
	@echo "lint: ok"

unit: .venv/.ready ## Planning, rendering, queue, reflector, launcher (no server)
	@$(PYTEST) tests/unit -q

loaders: .venv/.ready ## Rendered plans against the loaders of all nine vllm-omni releases
	@$(PYTEST) tests/loaders -q

api: .venv/.ready ## The real kube-apiserver, scheduler, KubeRay on fake nodes
	@$(PYTEST) tests/api -q

e2e: .venv/.ready ## kind, KubeRay, the real engine and the stand-in
	@$(E2E) -v

e2e-full: .venv/.ready ## As e2e, with everything that is thinned out there
	@OMNI_E2E_FULL=1 $(E2E) -v

RECONCILE = --markdown docs/reference/cost.md
bench: .venv/.ready ## The planner by size; regret of planned transports; cost of OmniDeployments, writes docs/reference/cost.md
	@$(PY) -m bench.planner
	@$(PY) -m bench.reconcile $(RECONCILE)
	@$(PY) -m bench.transfers

failures: .venv/.ready ## Kill every part of real pipelines in turn; writes docs/reference/failures.md (40 minutes)
	@$(PY) -m e2e.failures

generate: .venv/.ready ## The CRD and its copies, reference pages, pictures
	@$(PY) hack/generate.py

LOCK = uv pip compile -q --python-version 3.11 --generate-hashes --no-annotate --no-header
lock: ## Pin dependencies anew (needs uv)
	@$(LOCK) --extra ray --group dev pyproject.toml -o constraints.txt
	@$(LOCK) --universal -c constraints.txt pyproject.toml -o constraints-runtime.txt
	@python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' | $(LOCK) --universal -c constraints.txt - -o constraints-build.txt

clean: .venv/.ready ## Remove the test cluster and what tests left; builds stay cached
	@$(PY) -m e2e.cluster down
	@rm -rf out .pytest_cache .mypy_cache .ruff_cache .hypothesis

clean-all: clean ## Also remove cached builds
	@$(PY) -m e2e.cluster prune
	@rm -rf .venv
