# `make demo` and `make test` are all that a newcomer needs; both make the environment first.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SNAKEMAKE := $(BIN)/snakemake
READY := $(VENV)/.ready
RUN ?= config/study.yaml
DATA ?= ../shared/data/wrist
# Many short jobs import large libraries: without Python's bytecode cache each import takes three times as long.
export PYTHONDONTWRITEBYTECODE :=

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/'

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than Python 3.11. Set one: make PYTHON=python3.12 ..."; exit 1; }
	@echo "making $(VENV) from requirements.lock (about 3 GB to download, 7 GB on disk)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@UV=$$(command -v uv || echo $(BIN)/uv); \
		$$UV pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock && \
		$$UV pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

environment: $(READY) ## Make .venv from requirements.lock

demo: $(READY) ## Fetch a CT, simulate X-rays, train, register, make tables and figures
	@PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores all
	@cat results/pelvis-demo/tables/table1.md results/pelvis-demo/tables/table2.md results/pelvis-demo/tables/table3.md
	@echo "results/pelvis-demo/report.html holds all of it and every X-ray: open it in a browser"

study: $(READY) ## The run from which claims are made (6 specimens of 12 X-rays)
	@PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores all --configfile config/study.yaml
	@cat results/pelvis-study/tables/table1.md results/pelvis-study/tables/table3.md results/pelvis-study/tables/ablation.md
	@echo "results/pelvis-study/report.html holds all of it and every X-ray: open it in a browser"

estimate: $(READY) ## Core-hours, GPU-hours and disk of a run: make estimate RUN="config/deepfluoro.yaml mine.yaml"
	@PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores 1 --quiet rules --configfile $(RUN) -- estimate

test: $(READY) ## Lint, unit tests, dry-runs, the real smoke workflow
	@$(MAKE) --no-print-directory lint
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-slow: $(READY) ## Tests of minutes and gigabytes, such as a training step of MedSAM's ViT-B
	@$(BIN)/python -m pytest -m slow

config: $(READY) ## Write config.yaml, its schema and docs/configuration.md from the models in src/roireg/workflow/schema
	@$(BIN)/python -m roireg.workflow.config_files

lint: $(READY) ## Linters and formatters, without changing a file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/python -m roireg.workflow.config_files --check
	$(SNAKEMAKE) --lint

format: $(READY) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

$(VENV)/.bench: requirements-bench.lock $(READY)
	@$$(command -v uv || echo $(BIN)/uv) pip install --quiet --python $(BIN)/python --require-hashes -r $<
	@touch $@

bench: $(VENV)/.bench ## Ratios against peers, each measured in one process
	@for file in benchmarks/bench_*.py; do $(BIN)/python $$file; done

own-study: $(READY) ## roireg on new deformed copies of the demo's CT: errors, verdicts, two views (docs/own-data.md)
	@$(BIN)/python benchmarks/own_patient.py

real-wrist: $(READY) ## Bones in real X-rays: make real-wrist DATA=folder (docs/real-data.md)
	@$(BIN)/python benchmarks/real_wrist.py "$(DATA)"

parity: $(READY) ## roireg under the paper's settings against DiffPose's own recipe, on DiffDRR (docs/paper-gaps.md)
	@$(BIN)/python benchmarks/diffpose_parity.py

report: $(READY) ## One self-contained HTML report of the last `make demo`
	@PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores all --report results/pelvis-demo/snakemake-report.html

LOCK_OPTIONS := --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links

lock: $(READY) ## Resolve the lock files anew from pyproject.toml
	@UV=$$(command -v uv || echo $(BIN)/uv); \
		$$UV pip compile $(LOCK_OPTIONS) --extra dev --extra cluster pyproject.toml -o requirements.lock; \
		$$UV pip compile $(LOCK_OPTIONS) --extra dev --extra cluster --extra bench --constraint requirements.lock pyproject.toml \
			-o requirements-bench.lock

clean: ## Remove results, not the environment
	rm -rf results/* .snakemake

.PHONY: help environment demo study estimate test test-slow config lint format bench own-study real-wrist parity report lock clean
