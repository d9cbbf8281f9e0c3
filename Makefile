# Everything sets itself up: a target that needs the virtual environment makes it, from the locks, once.
# PYTHON names the interpreter to make it with (default: the first of python3, python3.14 … python3.11 that is 3.11 to 3.14).

.DEFAULT_GOAL := help
.PHONY: help demo test lint lock clean

BIN := .venv/bin
LOCKS := requirements/torch-cpu.txt requirements/torch.txt requirements/torch-cuda.txt requirements/lock.txt
export PYTHON

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' Makefile | expand -t 14

demo: .venv/run.stamp ## set up, then fine-tune a 135M model to name licences: from raw file to verdict
	@$(BIN)/tunesmith run examples/licence-notices/task.yaml

test: lint ## every check that CI makes: lint, then the tests
	$(BIN)/pytest

lint: .venv/dev.stamp ## style, types and the layers of the house
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy src tests scripts studies benchmarks
	$(BIN)/lint-imports

lock: ## recompile requirements/*.txt with the newest versions that pyproject.toml allows
	$(or $(PYTHON),python3) scripts/lock.py

clean: ## remove the virtual environment and caches; runs/ stays
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests scripts -name __pycache__ -prune -exec rm -rf {} +

.venv/run.stamp: pyproject.toml $(LOCKS) requirements/wheels.txt scripts/setup.sh scripts/missing_cuda.py
	@scripts/setup.sh run

.venv/dev.stamp: .venv/run.stamp requirements/dev.txt
	@scripts/setup.sh dev
