# Names commands; what they do is in the package. `make demo` and `make test` need Python 3.11, g++, cmake and make.
SHELL := /bin/bash
.DEFAULT_GOAL := help

UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
PYTHON := .venv/bin/python
# What was set up last, so that only `make setup EXTRA=...` changes it.
EXTRA ?= $(or $(patsubst .venv/.ready-%,%,$(wildcard .venv/.ready-*)),cpu)
KERNELS := $(shell find kernels -name '*.cc' -o -name '*.h' -o -name CMakeLists.txt)
export OPTOPS_HOME ?= $(CURDIR)/.optops
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: help setup demo demo-vision demo-text ui test lint format typecheck unit docs services clean bench-kernels bench-peers bench-models test-oldest

help:  ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv

.venv/.ready-$(EXTRA): pyproject.toml uv.lock $(KERNELS) | $(if $(filter .uv/%,$(UV)),.uv/bin/uv)
	@rm -f .venv/.ready*
	$(UV) sync --frozen --extra $(EXTRA) --compile-bytecode
	@touch $@

# A bare `optops` finds the folder from anywhere in the checkout.
setup: .venv/.ready-$(EXTRA)  ## Install everything into .venv, as uv.lock pins it
	@mkdir -p "$(OPTOPS_HOME)"

demo: setup  ## Take the travel-phrase recipe through the whole flow in Airflow, to a promoted model
	@.venv/bin/optops demo

demo-vision: setup  ## Draw scenes, textures and shapes, and take a model of each kind of vision through the whole flow
	@.venv/bin/optops demo dags/recipes/drawn_scenes.yaml
	@.venv/bin/optops demo dags/recipes/procedural_textures.yaml
	@.venv/bin/optops demo dags/recipes/drawn_shapes.yaml

demo-text: setup  ## Take a BERT on travellers' questions through the whole flow, to a promoted model
	@.venv/bin/optops demo dags/recipes/travel_intents.yaml

ui: setup  ## Start Airflow and MLflow on loopback and say where they are
	@.venv/bin/optops ui

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/clang-format --dry-run --Werror $(filter %.cc %.h,$(KERNELS))

typecheck: setup
	.venv/bin/mypy

test: setup lint typecheck unit  ## Lint, check types, run all tests

# Longest first: what starts services is collected first, and one worker is at it while the other does the rest.
unit:
	$(PYTHON) -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder

test-oldest: setup  ## Test the operators in the oldest TensorFlow that is supported
	$(UV) venv --quiet --allow-existing --python 3.11 build/oldest
	$(UV) pip install --quiet --python build/oldest/bin/python tensorflow-cpu==2.16.2
	OPTOPS_OLDEST_PYTHON=build/oldest/bin/python $(PYTHON) -m pytest tests/unit/kernels/test_kept_blocks.py

format: setup  ## Format the code
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .
	.venv/bin/clang-format -i $(filter %.cc %.h,$(KERNELS))

docs: setup  ## Write docs/recipe.md anew from the recipe's models, docs/results.md from docs/results.json
	$(PYTHON) -m optops.recipe_reference docs/recipe.md
	$(PYTHON) docs/results.py write

bench-kernels: setup  ## Time single products of the operator library, and what of this machine's bandwidth they reach
	cmake -S kernels -B build/kernels -DOPTOPS_BENCHMARKS=ON -DCMAKE_COMPILE_WARNING_AS_ERROR=ON
	cmake --build build/kernels --parallel 2
	build/kernels/bench_products

bench-peers: setup  ## Time whole translators against CTranslate2 and others, on the same weights; JSON=FILE keeps the records
	$(UV) sync --frozen --extra $(EXTRA) --extra peers
	$(PYTHON) kernels/bench/peers.py $(if $(JSON),--json $(JSON))

bench-models: setup  ## Time full-size networks in every form, and int8 against the toolkits' own; PART=vision, text or quantisers
	$(UV) sync --frozen --extra $(EXTRA) --extra peers
	$(PYTHON) benchmarks/models.py $(PART) $(if $(JSON),--json $(JSON))

services:  ## Install what the browser tests need (Debian packages, as root)
	apt-get update --quiet --quiet
	apt-get install --yes --quiet --quiet --no-install-recommends chromium chromium-driver

clean:  ## Remove environments, caches, and .optops with its runs and registered models
	rm -rf .venv .uv .optops .airflow .mypy_cache .ruff_cache .pytest_cache
