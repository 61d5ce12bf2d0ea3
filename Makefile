# On a fresh machine with Python (3.11 or newer) and make: `make demo` or `make test` sets everything up in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The loader for NVIDIA GPUs, DALI, comes in one build for each CUDA version: the driver decides which. It is there for
# Linux with glibc alone; `make GPU=gpu-cuda12` chooses the build, `make GPU=` leaves it out.
GPU ?= $(shell \
	if [ "$$(uname -s)" = Linux ] && getconf GNU_LIBC_VERSION >/dev/null 2>&1; then \
		case "$$(uname -m)" in (x86_64|aarch64) \
			if nvidia-smi 2>/dev/null | grep -q 'CUDA Version: 12\.'; then echo gpu-cuda12; else echo gpu; fi;; \
		esac; \
	fi)
COMMA := ,
EXTRAS := dev$(addprefix $(COMMA),$(GPU))
OTHER_BUILD := $(if $(filter gpu-cuda12,$(GPU)),nvidia-dali-cuda130,nvidia-dali-cuda120)

.PHONY: demo test lint types docs bench phantom-grid phantom-systems clean
.DEFAULT_GOAL := demo

# What was installed stands in the file: with other extras it is done again.
ifneq ($(shell cat $(VENV)/installed 2>/dev/null),$(EXTRAS))
.PHONY: $(VENV)/installed
endif

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "cxrkit needs Python 3.11 or newer; name one with: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip uninstall --quiet --quiet --quiet --yes $(OTHER_BUILD)
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	@echo '$(EXTRAS)' > $@

# The main job on a phantom cohort: synth -> prepare -> train -> report.
demo: $(VENV)/installed
	$(BIN)/cxrkit demo

# All tests, in parallel; one computing thread each, or the processes would fight for the cores.
test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadgroup

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed
	$(BIN)/mypy

# The documentation as a site in build/site: no network, and a link that leads nowhere is an error.
docs: $(VENV)/installed
	$(BIN)/python docs/site/formats.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# Our loaders and their peers, side by side; benchmarks/README.md says what is measured.
bench: $(VENV)/installed
	$(BIN)/python benchmarks/peers/install.py
	$(BIN)/python benchmarks/run.py

# Table 3 of the paper at a small size on phantoms, all 40 runs: benchmarks/phantom_grid/README.md. What is done is left.
GRID ?= build/phantom-grid
JOBS ?= 2
ELSEWHERE := benchmarks/phantom_grid/elsewhere

phantom-grid: $(GRID)/weights.safetensors
	$(BIN)/cxrkit synth $(GRID)/raw --images 3000
	$(BIN)/cxrkit prepare --dataset synthetic --raw $(GRID)/raw --data $(GRID)/shards --levels 128
	$(BIN)/cxrkit reproduce benchmarks/phantom_grid/table3.toml --data $(GRID)/shards --runs $(GRID)/runs \
		--weights $(GRID)/weights.safetensors --jobs $(JOBS)

# In place of ImageNet's: another cohort, other labels. `python -m` finds the data set in this folder.
$(GRID)/weights.safetensors: $(ELSEWHERE).py $(ELSEWHERE).toml | $(VENV)/installed
	rm -rf $(GRID)/elsewhere/shards $(GRID)/elsewhere/runs
	$(BIN)/cxrkit synth $(GRID)/elsewhere/raw --images 3000 --seed 1
	$(BIN)/python -m cxrkit prepare --dataset benchmarks.phantom_grid.elsewhere:read --raw $(GRID)/elsewhere/raw \
		--data $(GRID)/elsewhere/shards --levels 128
	$(BIN)/python -m cxrkit train --recipe $(ELSEWHERE).toml --fold 1 --data $(GRID)/elsewhere/shards \
		--runs $(GRID)/elsewhere/runs
	$(BIN)/python -m benchmarks.phantom_grid.weights $(GRID)/elsewhere/runs/elsewhere/resample-1 $@

# The systems that the paper compares with, at a small size on phantoms: benchmarks/seed_systems/README.md.
SYSTEMS ?= build/phantom-systems

phantom-systems: | $(VENV)/installed
	$(BIN)/cxrkit synth $(SYSTEMS)/raw --images 3000
	$(BIN)/python -m benchmarks.seed_systems.boxed $(SYSTEMS)/raw
	$(BIN)/cxrkit prepare --dataset synthetic --raw $(SYSTEMS)/raw --data $(SYSTEMS)/shards --levels 256,128
	$(BIN)/python -m cxrkit prepare --dataset benchmarks.seed_systems.eight:read --raw $(SYSTEMS)/raw \
		--data $(SYSTEMS)/eight --levels 256,128
	$(BIN)/cxrkit reproduce benchmarks/seed_systems/systems.toml --data $(SYSTEMS)/shards --runs $(SYSTEMS)/runs --jobs $(JOBS)
	$(BIN)/python -m cxrkit reproduce benchmarks/seed_systems/eight.toml --data $(SYSTEMS)/eight --runs $(SYSTEMS)/runs
	$(BIN)/python -m benchmarks.seed_systems.results $(SYSTEMS)/runs --out $(SYSTEMS)/record
	$(BIN)/cxrkit report --runs $(SYSTEMS)/runs

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
