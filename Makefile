# make demo   trains 32 seeds on CartPole, prints their table and draws their learning curve
# make test   style, types and tests, which are compiled with few optimisations; types are checked while tests run.
#             make test-fast runs the tests of the losses, config, reports and analysis alone; make test-slow those
#             that take minutes, and all others compiled as for users; make test-faults those that disturb runs.
#             make test-gpu runs those of what computes on an NVIDIA GPU, and installs what that needs.
#             Files are handed out in their order, so that the last are those of the docstrings, which are short.
#
# make docs   builds the documentation site into build/site, in an environment of its own (.venv-docs); a broken link, a
#             public name without a docstring or any other warning fails.
#
# Each makes its own virtual environment in .venv first and needs nothing but Python 3.12 or newer, which
# is looked for, or named: make test PYTHON=/usr/local/bin/python3.13

PYTHON ?= $(shell for python in python3.12 python3.13 python3.14 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1 && echo $$python && break; done)
VENV := .venv
RUN := $(VENV)/bin/python
DOCS := .venv-docs

.PHONY: demo docs test test-fast test-slow test-faults test-gpu format

demo: $(VENV)/.installed
	$(RUN) -m experiments.train --config=configs/cartpole.py --workdir=runs/demo

test: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy >$(VENV)/types.txt 2>&1 & mypy=$$!; $(RUN) -m pytest -n 3 --dist loadfile --no-loadscope-reorder; tests=$$?; \
	wait $$mypy; types=$$?; cat $(VENV)/types.txt; exit $$((tests + types))

test-fast: $(VENV)/.installed-test
	$(RUN) -m pytest -n 2 --dist worksteal tests/losses tests/config tests/reports tests/analysis haepo_jax/losses \
	haepo_jax/config haepo_jax/reports haepo_jax/analysis

test-slow: $(VENV)/.installed-test
	$(RUN) -m pytest -m 'slow and not faults' --optimized
	$(RUN) -m pytest -n 3 --dist loadfile --no-loadscope-reorder --optimized

test-faults: $(VENV)/.installed-test
	$(RUN) -m pytest -m faults --optimized --timeout=1800 -s tests/faults

test-gpu: $(VENV)/.installed-test-gpu
	JAX_PLATFORMS=cuda XLA_PYTHON_CLIENT_PREALLOCATE=false $(RUN) -m pytest --optimized tests/losses tests/algorithms \
	tests/rollouts tests/networks tests/population tests/language/model tests/language/training \
	tests/runtime/test_precision.py

docs: $(DOCS)/.installed
	rm -rf build/site  # and nothing is remembered, as a warning is shown for what is read alone
	$(DOCS)/bin/sphinx-build --fail-on-warning --fresh-env --quiet -c docs/site -d build/site_cache . build/site
	@echo "The site is there: build/site/index.html"

format: $(VENV)/.installed-test
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# What users and tests install: one call of pip each, as each looks at everything that is needed anew. Files are compiled
# to bytecode on all cores, which pip does on one, and without the tests of the libraries; what fails here, imports do.
define install
	@test -n "$(PYTHON)" || { echo "haepo_jax needs Python 3.12 or newer, and none was found (python3 is \
	$$(python3 --version 2>&1)). Install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-compile --editable '.$(1)'
	$(@D)/bin/python -m compileall -qq -j 0 -x '/tests/' $(@D)/lib || true
	touch $@
endef

$(VENV)/.installed: setup.py
	$(call install,[train])

$(VENV)/.installed-test: setup.py
	$(call install,[test])
	touch $(VENV)/.installed

$(VENV)/.installed-test-gpu: setup.py
	$(call install,[test,cuda])
	touch $(VENV)/.installed $(VENV)/.installed-test

$(DOCS)/.installed: setup.py
	$(call install,[docs])
