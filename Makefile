# Two commands are enough:  make train CORPUS=meditations   and   make test
# CORPUS=  a known name, a file (text, JSON lines, CSV, Parquet ...), a folder, an http(s) URL, or a hub id
# MODEL=   a built-in name (mini, mini-random), a local folder, or a hub id such as google-bert/bert-base-uncased
# RECIPE=  a YAML file; by default quickstart for a built-in model and adapt for any other
# ARGS=    any other option: ARGS="--learning_rate 1e-4 --num_train_epochs 3"
# PIP_OPTIONS=  options for pip when .venv is created, for example to find the CPU build of torch
# TEXT=    a text file, on which `make pretrain-mini` trains, or `make bench` measures (by default the bundled corpus)
# PYTHON_GPU=  a Python that has torch and the rest, for bench-gpu and test-gpu: nothing is created, installed or fetched

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TEXT ?= $(wildcard ../shared/corpora/meditations_long.txt)
# The environment of what needs a GPU: PYTHON_GPU as it is, or .venv after it has been set up.
WITH_GPU = PYTHONPATH="$(CURDIR)" $(or $(PYTHON_GPU),$(BIN)/python)
VALUES = $(if $(CORPUS),--corpus "$(CORPUS)") $(if $(MODEL),--model "$(MODEL)") $(ARGS)

.PHONY: help setup inspect train pretrain-mini reference evaluate demo report compare verify parity bench bench-gpu bench-data bench-scale equality story models task-gain policies torture test test-slow test-isa test-gpu test-network test-browser test-next-steps test-floors test-newest lint docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16
	@sed -n '2,8s/^# //p' $(MAKEFILE_LIST)

setup: $(VENV)/ready  ## create .venv and install what training needs

inspect: setup  ## show what will happen to CORPUS before a model is trained on it
	@$(BIN)/mlm-recipes inspect $(if $(RECIPE),--recipe "$(RECIPE)") $(VALUES)

train: setup  ## train a model on CORPUS and show what it learned
	@$(BIN)/mlm-recipes train $(RECIPE) $(VALUES)

pretrain-mini: setup  ## train a model such as mini on TEXT (one paragraph per line, ten million words): an hour or two on two cores
	@test "$(origin TEXT)" != file || { echo "Which text? make pretrain-mini TEXT=novels.txt"; exit 2; }
	@$(BIN)/mlm-recipes train recipes/pretrain-mini.yaml --corpus "$(TEXT)" $(ARGS)

# The tutorial's recipe uses bert-base-uncased; without MODEL the loop trains `mini`, which needs no download.
reference: setup  ## run the tutorial's own loop on CORPUS
	@$(BIN)/mlm-recipes reference $(or $(RECIPE),recipes/tutorial.yaml) $(if $(RECIPE)$(MODEL),,--model mini) $(VALUES)

evaluate: setup  ## measure MODEL (for example a run folder) on CORPUS's held-out text
	@$(BIN)/mlm-recipes evaluate $(RECIPE) $(VALUES)

demo: $(VENV)/ready-demo  ## try RUN's model on a local page, before and after training
	@test -n "$(RUN)" || { echo "Which run? make demo RUN=runs/meditations"; exit 2; }
	@$(BIN)/mlm-recipes demo "$(RUN)" $(ARGS)

report: setup  ## write RUN's report.html again
	@test -n "$(RUN)" || { echo "Which run? make report RUN=runs/meditations"; exit 2; }
	@$(BIN)/mlm-recipes report "$(RUN)"

compare: setup  ## show runs side by side: RUNS="runs/meditations runs/meditations-2"; writes compare.html
	@test -n "$(RUNS)" || { echo 'Which runs? make compare RUNS="runs/meditations runs/meditations-2"'; exit 2; }
	@$(BIN)/mlm-recipes compare $(RUNS) --output compare.html

verify: setup  ## check RECIPE's numbers with MODEL and CORPUS: accumulation, masks, evaluation, kill and resume
	@$(BIN)/mlm-recipes verify $(RECIPE) $(VALUES)

parity: setup  ## measure transformers' Trainer and MLMTrainer side by side; writes benchmarks/results/
	@$(BIN)/python benchmarks/parity.py $(ARGS)

bench: setup  ## measure a training step, one option per row, and the cost of Trainer and collator: 15 minutes; BENCH=full: an hour
	@BENCH=$(BENCH) $(BIN)/python benchmarks/step.py $(if $(TEXT),--text $(TEXT)) $(ARGS)
	@$(BIN)/python benchmarks/collator.py $(if $(TEXT),--text $(TEXT))
	@BENCH=$(BENCH) $(BIN)/python benchmarks/trainer.py $(if $(TEXT),--text $(TEXT))

bench-gpu: $(if $(PYTHON_GPU),,setup)  ## measure training steps on one GPU against transformers' Trainer: six minutes. Without setting up: PYTHON_GPU=python3
	@$(WITH_GPU) benchmarks/gpu.py $(ARGS)

bench-data: setup  ## measure time and memory from a text of 100 MB to the first step: twenty minutes
	@$(BIN)/python benchmarks/data.py $(if $(TEXT),--text $(TEXT)) $(ARGS)

bench-scale: setup  ## measure one to four processes, accumulation, 1 to 100 times the text, and rows dealt by length or not: a quarter of an hour; draws docs/images/scale.svg
	@$(BIN)/python benchmarks/scale.py $(if $(TEXT),--text $(TEXT)) $(ARGS)
	@$(BIN)/python benchmarks/balance.py $(if $(TEXT),--text $(TEXT))

equality: $(VENV)/ready-dev  ## hold one recipe in 1 to 4 processes, on two hosts, with FSDP2, resumed across all of them, against one process: two minutes
	@$(BIN)/python benchmarks/equality.py $(ARGS)

story: $(VENV)/ready-dev  ## prepare, train and lose a host, with kills on the way, and compare the weights with an undisturbed run: three minutes
	@$(BIN)/python benchmarks/long_story.py $(ARGS)

models: $(VENV)/ready-dev  ## ask every encoder of the installed transformers what works with it: twenty minutes
	@$(BIN)/python benchmarks/encoders.py $(ARGS)

task-gain: setup  ## compare what texts gain in loss with what a labelled task gains: ARGS="--text meditations --probe stoic"
	@$(BIN)/python benchmarks/task_gain.py $(ARGS)

policies: setup  ## compare ways to mask and to adapt in equal time: ARGS="adapt --text meditations", or "pretrain ..."
	@$(BIN)/python benchmarks/policies.py $(ARGS)

torture: $(VENV)/ready-dev  ## interrupt small runs a few hundred times, by kills, signals and full disks: half an hour on two cores
	@$(BIN)/python benchmarks/torture.py $(ARGS)

test: $(VENV)/ready-dev  ## run the tests: offline, three minutes on two cores
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

test-slow: $(VENV)/ready-dev  ## run the tests marked slow: real processes, whole runs, the README's commands
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "slow and not gpu and not network and not browser" $(ARGS)

test-isa: $(VENV)/ready-dev  ## run all tests under several instruction sets and numbers of threads of this processor
	@for isa in $(ISAS); do echo "== $$(echo $$isa | tr , ' ')"; \
	    env $$(echo $$isa | tr , ' ') $(BIN)/python -m pytest --numprocesses auto --dist loadfile \
	    -m "not gpu and not network and not browser" $(ARGS) || exit 1; done

test-gpu: $(if $(PYTHON_GPU),,$(VENV)/ready-dev)  ## run the tests marked gpu. Without setting up: PYTHON_GPU=python3
	@$(WITH_GPU) -m pytest -m gpu $(ARGS)

test-browser: $(VENV)/ready-dev $(VENV)/ready-demo  ## run the tests of the demo's page, in Chromium
	@$(BIN)/python -m pytest -m browser $(ARGS)

test-next-steps: $(VENV)/ready-dev  ## run the examples of docs/next-steps.md, with sentence-transformers installed
	@$(INSTALL) 'sentence-transformers>=6'
	@$(BIN)/python -m pytest tests/test_docs.py -k next_step $(ARGS)

test-network: $(VENV)/ready-dev  ## run the tests marked network
	@$(BIN)/python -m pytest -m network $(ARGS)

test-floors: .venv-floors/ready  ## run the tests with the lowest versions that setup.cfg allows, in .venv-floors; PYTHON=python3.10
	@.venv-floors/bin/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

test-newest:  ## run the tests with the newest versions available, in .venv-newest: gigabytes, with PyTorch for CUDA
	@test -x .venv-newest/bin/python || $(PYTHON) -m venv .venv-newest
	@.venv-newest/bin/python -m pip install --disable-pip-version-check --quiet --upgrade --upgrade-strategy eager --editable '.[dev]'
	@.venv-newest/bin/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

lint: $(VENV)/ready-dev  ## check style, types, and imports between rooms
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: $(VENV)/ready-docs  ## build the documentation into site/, and check its links
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

clean:  ## remove .venv and caches, but not runs/
	rm -rf $(VENV) .venv-floors .venv-newest build dist site *.egg-info .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The instructions that torch's own kernels, oneDNN and MKL may use; a comma represents a space. They ignore
# instructions that the processor lacks.
ISAS = ATEN_CPU_CAPABILITY=default \
    ATEN_CPU_CAPABILITY=avx2,ONEDNN_MAX_CPU_ISA=AVX2,MKL_ENABLE_INSTRUCTIONS=AVX2 \
    ONEDNN_MAX_CPU_ISA=AVX512_CORE \
    OMP_NUM_THREADS=1 OMP_NUM_THREADS=2

INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt $(PIP_OPTIONS)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "Python 3.10 or newer is needed; this is " + sys.version.split()[0] + ". Name a newer one: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "The virtual environment could not be created. On Debian and Ubuntu: apt install python3-venv"; exit 1; }

$(VENV)/ready: setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) (once; PyTorch is large) ..."
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/ready-dev: setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) (once; PyTorch is large) ..."
	@$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/ready

$(VENV)/ready-demo: setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) (once) ..."
	@$(INSTALL) --editable '.[demo]'
	@touch $@ $(VENV)/ready

$(VENV)/ready-docs: setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) (once) ..."
	@$(INSTALL) --editable '.[docs]'
	@touch $@

.venv-floors/ready: setup.cfg pyproject.toml constraints-floors.txt
	@echo "Installing into .venv-floors (once; PyTorch comes for CUDA, gigabytes) ..."
	@$(PYTHON) -m venv .venv-floors
	@.venv-floors/bin/python -m pip install --disable-pip-version-check --quiet --constraint constraints-floors.txt --editable '.[dev]'
	@touch $@
