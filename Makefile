# Everything a clone needs: `make` lists the targets.
PYTHON ?= python3
IMAGES ?=
VENV := .venv
UV := $(shell command -v uv 2>/dev/null)
EXTRAS := dev train test data bench tune export demo serve
COMPILE = $(or $(UV),.tools/bin/uv) pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate -c requirements/constraints.in
# Packages that only the default CUDA builds of torch need; other platforms' indexes bring their own.
ACCELERATOR := ^(nvidia-|cuda-|triton)

.DEFAULT_GOAL := help
.PHONY: help demo test slow lint types format train-weights env reqs clean-reqs clean

help: ## list the targets
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 16

demo: env ## read pictures (IMAGES="a.jpg b/"); then render words, train on them for 10 minutes, test, read again
	$(VENV)/bin/strhub quickstart --images demo_images $(IMAGES)

test: env ## run the whole test suite
	$(VENV)/bin/python -m pytest -n auto --dist loadfile

slow: env ## run the tests that take minutes
	$(VENV)/bin/python -m pytest -n auto --dist load -m slow

lint: env ## check style
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: env ## check types
	$(VENV)/bin/mypy

format: env ## put every file into the house style
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

train-weights: env ## make the weights in strhub/weights anew (about two hours on two cores; real words from ../shared/data)
	$(VENV)/bin/python scripts/train_weights.py

env: $(VENV)/.ready ## make .venv and install strhub in it, with the registry's ordinary torch

$(VENV)/.ready: pyproject.toml $(wildcard requirements/*.in) requirements/core.txt $(EXTRAS:%=requirements/%.txt)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo 'strhub needs Python 3.10 or newer: give one with make PYTHON=/path/to/python3 …' >&2; exit 2; }
ifdef UV
	$(UV) venv --quiet --clear --python $(PYTHON) $(VENV)
	$(UV) pip install --quiet --python $(VENV)/bin/python $(addprefix -r requirements/,core.txt $(EXTRAS:%=%.txt)) -e .
else
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(addprefix -r requirements/,core.txt $(EXTRAS:%=%.txt)) -e .
endif
	@touch $@

torch-%: $(or $(UV),.tools/bin/uv) ## torch-cpu, torch-cu126, torch-rocm6.4 …: write requirements/core.<platform>.txt
	@echo '$*' | grep -qE '^(cpu|xpu|cu[0-9]+|rocm[0-9]+(\.[0-9]+)*)$$' || \
		{ echo 'no torch platform is called $*: use cpu, xpu, cu<version> (cu126) or rocm<version> (rocm6.4)' >&2; exit 2; }
	@{ echo '# torch-$*: compiled from core.in by `make torch-$*`'; \
	   echo '--extra-index-url https://download.pytorch.org/whl/$*'; \
	   $(COMPILE) -c requirements/core.txt requirements/core.in | grep -vE '$(ACCELERATOR)'; } > requirements/core.$*.txt.part
	@mv requirements/core.$*.txt.part requirements/core.$*.txt
	@echo 'wrote requirements/core.$*.txt; next: pip install -r requirements/core.$*.txt -e .[train,test]'

reqs: requirements/core.txt $(EXTRAS:%=requirements/%.txt) ## compile requirements/*.in into *.txt

# Only when asked for: a clone's files are of any age, and to compile them anew takes the index.
ifneq (,$(filter reqs requirements/%,$(MAKECMDGOALS)))
requirements/core.txt: requirements/core.in | $(or $(UV),.tools/bin/uv)
	$(COMPILE) $< -o $@

requirements/%.txt: requirements/%.in .tools/together.txt
	$(COMPILE) -c .tools/together.txt $< -o $@

# One version of each package for all extras, so that they can be installed together.
.tools/together.txt: requirements/core.txt $(EXTRAS:%=requirements/%.in) | $(or $(UV),.tools/bin/uv)
	@mkdir -p $(@D)
	$(COMPILE) -c requirements/core.txt requirements/core.in $(EXTRAS:%=requirements/%.in) -o $@
endif

.tools/bin/uv:
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check uv

clean-reqs: ## remove every compiled requirements/*.txt
	rm -f requirements/*.txt

clean: ## remove environments, builds and caches
	rm -rf $(VENV) .tools build dist .pytest_cache .ruff_cache .mypy_cache
