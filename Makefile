PYTHON  ?= python3
VENV    ?= .venv
BIN     := $(VENV)/bin
DOCS    ?=
Q       ?=
LIVE    ?=
TESTS   ?=
WORKERS ?= 2
SMOKE   ?=

.PHONY: bench cassettes clean cores demo docs generate install lint notebooks package test types unit

# A module is compiled when it is first imported, and kept: of those installed few are, and compiling all takes as long as
# unpacking them; whoever is told to keep none compiles each of them anew in every process.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
export PYTHONDONTWRITEBYTECODE :=

# The pip that comes with Python 3.11 takes three times as long for two hundred packages.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) pip

# The demo's stamp and the tests' stamp are two, so that the demo installs no test tools.
$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[all]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[dev,docs]'
	touch $@

# Everything that the other targets need.
install: $(VENV)/.dev

demo: $(VENV)/.demo
	@$(BIN)/rage demo $(if $(DOCS),--docs "$(DOCS)") $(if $(Q),--question "$(Q)")

test: lint types unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy rage_retrievers tests

# In WORKERS processes, each of which takes over tests from one that is behind; WORKERS=0: in this one.
unit: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TESTS)

# Every measure of speed beside its bar; takes some minutes, and wants the machine for itself. SMOKE=1: once, briefly.
bench: $(VENV)/.dev
	$(BIN)/python benchmarks/speed.py $(if $(filter 1,$(SMOKE)),--smoke)

clean:
	rm -rf $(VENV) build dist site .mypy_cache .pytest_cache .ruff_cache

generate: $(VENV)/.dev
	$(BIN)/python scripts/generate_docs.py

# The site, in site/; it fails on any warning, and on anything that a reader would have to load from elsewhere.
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python scripts/check_site.py site

# Wheel and sdist, and the wheel with each extra alone in a clean environment; needs the package index and some minutes,
# and no environment of its own.
package:
	$(PYTHON) scripts/check_package.py $(EXTRAS)

# Each retriever with the lowest and the newest core of its framework; needs the package index and some minutes.
cores: $(VENV)/.dev
	$(BIN)/python scripts/check_cores.py

# With LIVE=1 against the real service, which needs VECTORIZE_API_KEY, VECTORIZE_ORGANIZATION_ID, VECTORIZE_PIPELINE_ID.
cassettes: $(VENV)/.dev
	$(BIN)/python scripts/record_cassettes.py $(if $(filter 1,$(LIVE)),--live)

# Runs the notebooks and stores what they show.
notebooks: $(VENV)/.dev
	$(BIN)/python scripts/run_notebooks.py
