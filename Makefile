# make setup  the environment in .venv, which every other target needs and makes if it is not there
# make demo   set up if needed, run the experiment `demo` (minutes), print its table
# make smoke  the smallest experiment: does all of it work here?
# make show EXPERIMENT=NAME  open its site in a browser, or say where it lies; during a run, of the first cell
# make plan EXPERIMENT=NAME  what it lacks here, and its jobs, disk and hours, before anything is downloaded; PROFILE as for run
# make run EXPERIMENT=NAME   any experiment of the config; with PROFILE=profiles/slurm on a cluster
# make check EXPERIMENT=NAME  its results, embeddings and datasets against the hashes that were written with them
# make publish EXPERIMENT=NAME  its chosen SAEs, laid out for the Hugging Face hub in results/NAME/hub; uploads nothing
# make submit EXPERIMENT=NAME   its rows for the leaderboard: docs/results/NAME, with hashes, config and versions; uploads nothing
# make sizes  what each folder of results/ takes on the disk
# make unused what of it no experiment refers to; make prune asks, then deletes just that (YES=1: without asking)
# CONFIG=mine.yaml with any of these that reads a config: that file laid over config.yaml, or several, CONFIG='a.yaml b.yaml'
#
# For those who change the project:
# make test   set up if needed, run the tests (under 5 minutes on 2 cores)
# make test-cluster   the tests that take longer, on a real Slurm (`make slurm` installs Debian's)
# make test-libraries   round trips of SAEs with SAELens, dictionary_learning, eai-sparsify and Overcomplete, installed once
# make test-wheel   the library alone: its wheel in an empty environment, without the workflow engine
# make coverage   the tests, and how much of each module they run
# make docs   the documentation site, from what the repository holds: docs/_build/index.html; a broken link fails
# make pages   the documentation with the demo's site in it, as it is put on the web
# make wheel   what a release uploads: dist/
# make test-browser   the site in a real browser: Debian's chromium (`make chromium` installs it)
# make lint   ruff, mypy, snakefmt, snakemake --lint
# make schema   write the schema of config.yaml that editors use, and config/README.md
# make versions  the code that is not as it was recorded; RECORD='metric probe', or all, records it (docs/reruns.md)
# make bench  the short form of every comparison (it installs other libraries into .cache/bench): results/bench/
# make again EXPERIMENT=NAME  one cell of a submission, compared; CELL='DATASET BACKBONE K'; READ=1: its code, which runs here, was read
# make reference EXPERIMENT=NAME  keep its rows in docs/results/NAME, or in INTO=FOLDER, with the tables and figures they give
PYTHON ?= python3

# Nothing is written outside the checkout: every cache has its place in .cache.
export XDG_CACHE_HOME := $(CURDIR)/.cache
export PIP_CACHE_DIR := $(CURDIR)/.cache/pip
export MPLCONFIGDIR := $(CURDIR)/.cache/matplotlib
export HF_HOME := $(CURDIR)/.cache/huggingface
export TORCH_HOME := $(CURDIR)/.cache/torch
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Where a container's environment sets this, every job would compile PyTorch's modules anew, 5 s of its 8 to start.
export PYTHONDONTWRITEBYTECODE :=

EXPERIMENT ?= demo
INTO ?= docs/results/$(EXPERIMENT)
PROFILE ?=
CONFIG ?=
CELL ?=
READ ?=
SITE =
# The config of a profile would give way to these.
LAID_OVER = $(if $(CONFIG),--configfile config.yaml $(if $(PROFILE),$(wildcard $(PROFILE)/compute.yaml)) $(CONFIG))

help:
	@sed -n 's/^# \(make\|CONFIG=\|For those\)/\1/p' Makefile

.PHONY: help demo smoke plan run show check publish submit again sizes unused prune test test-cluster test-libraries test-browser test-wheel coverage wheel pages slurm chromium lint docs schema versions bench reference setup clean

run: setup
	@python -m sae_workflow.run $(EXPERIMENT) $(LAID_OVER) $(if $(PROFILE),--profile $(PROFILE))

plan: setup
	@python -m sae_workflow.forecast $(EXPERIMENT) $(if $(PROFILE),$(wildcard $(PROFILE)/compute.yaml)) $(CONFIG)

publish: setup
	@python -m sae_workflow.publish $(EXPERIMENT) $(CONFIG)

submit: setup
	@python -m sae_workflow.submission $(EXPERIMENT) $(CONFIG)

again: setup
	@python -m sae_workflow.again $(EXPERIMENT) $(CELL) $(if $(filter 1,$(READ)),--read)

show: setup
	@python -m sae_workflow.show $(EXPERIMENT) $(CONFIG)

check: setup
	@python -m sae_workflow.check $(EXPERIMENT)

sizes:
	@du -hc --max-depth=2 results 2>/dev/null || true

unused: setup
	@python -m sae_workflow.housekeeping unused $(CONFIG)

prune: setup
	@python -m sae_workflow.housekeeping prune $(if $(filter 1,$(YES)),--yes) $(CONFIG)

demo smoke: setup
	@python -m sae_workflow.run $@ $(LAID_OVER)

test: setup
	@python -m pytest

# What `make test` leaves out: the workflow on a real Slurm (`make slurm` installs it), faults, sharing, remote storage.
test-cluster: setup .venv/.cluster
	@python -m pytest -m "slow or slurm"

test-libraries: setup
	@python -m pytest -m libraries

test-wheel: setup
	@python -m pytest -m libraries tests/models/test_wheel.py

coverage: setup
	@python -m pytest --cov --cov-report=term:skip-covered

test-browser: setup .venv/.browser
	@test -x /usr/bin/chromium || { echo "error: no chromium. Get Debian's, as root: make chromium"; exit 1; }
	@python -m pytest -m browser

.venv/.browser: .venv/.complete requirements-browser.lock
	@python -m pip install --quiet -r requirements.lock -r requirements-browser.lock
	@touch $@

.venv/.cluster: .venv/.complete requirements-cluster.lock
	@python -m pip install --quiet -r requirements.lock -r requirements-cluster.lock
	@touch $@

# With SITE, a folder, that experiment's site lies beside the pages. What an earlier build left would be put on the web, too.
docs: setup .venv/.docs
	@rm -rf docs/_build
	@python -m sphinx -q -E -W --keep-going -d .cache/docs $(if $(SITE),-A demo=demo/index.html) -c docs . docs/_build
	@cp docs/_build/README.html docs/_build/index.html
	@$(if $(SITE),cp -r $(SITE) docs/_build/demo)
	@python docs/links.py docs/_build
	@echo "docs/_build/index.html"

pages: demo
	@$(MAKE) --no-print-directory docs SITE=results/demo/report

# An earlier build leaves files that a later wheel would take in.
wheel: setup
	rm -rf build dist
	@python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

.venv/.docs: .venv/.complete requirements-docs.lock
	@python -m pip install --quiet -r requirements.lock -r requirements-docs.lock
	@touch $@

# Debian's and Ubuntu's packages, as root. Under systemd they may start services, which the tests do not use.
slurm: export DEBIAN_FRONTEND = noninteractive
slurm:
	apt-get -qq update
	apt-get install -qq -y --no-install-recommends slurmctld slurmd slurm-client munge

# What `make test-browser` starts.
chromium: export DEBIAN_FRONTEND = noninteractive
chromium:
	apt-get -qq update
	apt-get install -qq -y --no-install-recommends chromium

lint: setup
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow docs/examples
	snakemake --lint

schema: setup
	python -m sae_workflow.schema

versions: setup
	@python -m sae_workflow.versions $(if $(RECORD),'$(RECORD)')

bench: setup
	python bench/performance.py --short

reference: setup
	python bench/reference.py keep results/$(EXPERIMENT) $(INTO) --config $(CONFIG)

setup: .venv/.complete

.venv/.complete: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 1; }
	@echo "Setting up .venv (about two minutes; Snakemake, PyTorch and friends) ..."
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --no-compile -r requirements.lock
	@.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@.venv/bin/python -c 'import os, sysconfig; site = sysconfig.get_path("purelib"); open(site + "/workflow.pth", "w").write(os.path.relpath("workflow", site))'
	@touch $@

clean:
	rm -rf .venv .cache .snakemake
