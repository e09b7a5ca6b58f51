# Everything here is short for a plain command, which stands beside its target: nothing needs make.
PYTHON ?= python3.11
VENV ?= .venv
SCALE ?=
LONG ?=

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help env repro plan review docs lab test lint lock ship clean

RUN := $(VENV)/bin/python -m
# Named after the content of what it was made from, not dated: a clock set back or a fresh checkout installs nothing anew.
READY := $(VENV)/.palimpsest-$(shell cat requirements.txt pyproject.toml | cksum | cut -d ' ' -f 1)
export LONG

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

env: $(READY) ## make the environment .venv       (pip install -r requirements.txt && pip install --no-deps -e .)
	@true

$(READY):
	@rm -f $(VENV)/.palimpsest-*
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing what requirements.txt lists into $(VENV) (a few minutes the first time)"
	$(RUN) pip install --disable-pip-version-check --no-compile -r requirements.txt
	@$(RUN) compileall -qq -j 0 $(VENV)/lib || true  # on all cores, where pip takes one; a few files are not meant to compile
	$(RUN) pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

repro: env ## bring every result up to date    (python -m lib.stages repro); SCALE=smoke|default|full, LONG=1
	@$(if $(SCALE),$(RUN) lib.stages scale $(SCALE))
	@$(RUN) lib.stages repro

plan: env ## what would run, why, how long    (python -m lib.stages plan)
	@$(RUN) lib.stages plan

review: env ## executed notebooks as web pages   (python -m lib.stages review)
	@$(RUN) lib.stages review

docs: env ## what was found, as Markdown      (python -m lib.stages docs)
	@$(RUN) lib.stages docs

lab: env ## explore in JupyterLab             (jupyter lab notebooks/start.ipynb)
	$(RUN) jupyterlab notebooks/start.ipynb

test: env ## run the tests                     (python -m lib.stages fetch && pytest -n logical)
	@$(RUN) lib.stages fetch
	$(RUN) pytest -q -n logical --maxprocesses 4 --dist worksteal

lint: env ## check style                       (ruff check . && ruff format --check .)
	$(RUN) ruff check .
	$(RUN) ruff format --check .

lock: ## write requirements.txt from .venv (python -m lib.stages lock)
	@$(RUN) lib.stages lock

ship: env ## bring store/ up to date           (python -m lib.stages ship)
	@$(RUN) lib.stages ship

clean: ## remove scratch, pages and caches  (rm -rf .scratch review .pytest_cache .ruff_cache)
	rm -rf .scratch review .pytest_cache .ruff_cache .hypothesis
	find lib tests notebooks -name __pycache__ -type d -prune -exec rm -rf {} +
