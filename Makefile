# The README's commands. `make demo` and `make test` each work on their own from a fresh clone.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_ARGS ?=
TEST_PROCESSES ?= 2

# The versions that are tested together; isolated builds read them too (the second name is newer pip's).
export PIP_CONSTRAINT ?= $(CURDIR)/.ci/constraints.txt
export PIP_BUILD_CONSTRAINT ?= $(PIP_CONSTRAINT)
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

SOURCES := pyproject.toml setup.py $(shell find csrc fusionkit plugins -type f \
	\( -name '*.py' -o -name '*.pyi' -o -name '*.cpp' -o -name '*.cu' -o -name '*.h' -o -name '*.cuh' -o -name '*.json' -o -name 'py.typed' \))

CXX_FILES := 'csrc/*.cpp' 'csrc/*.h' 'csrc/*.cu' 'csrc/*.cuh' 'tests/support/cuda_on_cpu/*'

.PHONY: help demo test dev lint lint-types format bench gpu-check fuzz sanitize clean

help:  ## show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/'

demo: $(VENV)/.installed  ## train MMLatch on the smart-watch data and show the result
	$(BIN)/fusionkit train mmlatch --preset sensors --recipe watch --set frontend_stride=4 $(DEMO_ARGS)

test: $(VENV)/.installed  ## run the test suite against the installed package
	$(BIN)/pytest -n $(TEST_PROCESSES) --dist worksteal tests
	TRITON_INTERPRET=1 $(BIN)/pytest -n $(TEST_PROCESSES) --dist worksteal -k "triton and not builds" tests/ops
	FUSIONKIT_CUDA_ON_CPU=1 $(BIN)/pytest -n $(TEST_PROCESSES) --dist worksteal tests/ops/test_*_cuda.py
	$(BIN)/pytest --quiet --doctest-modules --pyargs fusionkit fusionkit_plugins

dev: $(VENV)/.dev  ## editable install with linters, for work on FusionKit itself

lint: $(VENV)/.linters  ## ruff, mypy, clang-format, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files $(CXX_FILES))
	$(BIN)/lint-imports
	$(MAKE) lint-types

lint-types:
	mkdir -p build/typing && ln -sfn ../../plugins build/typing/fusionkit_plugins
	$(BIN)/mypy

format: $(VENV)/.linters  ## let ruff and clang-format rewrite the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files $(CXX_FILES))

bench: $(VENV)/.installed  ## run the benchmarks (pytest-benchmark)
	$(BIN)/pytest benches

gpu-check: $(VENV)/.installed  ## build, check and measure every GPU kernel; skips without a GPU
	PYTHON=$(BIN)/python bash benches/gpu_check.sh

fuzz: $(VENV)/.installed  ## 10,000 random cases for the compiled kernels, against float64
	FUSIONKIT_FUZZ_CASES=10000 $(BIN)/pytest tests/ops -k fuzz

sanitize: $(VENV)/.installed  ## the kernel tests under AddressSanitizer and UndefinedBehaviorSanitizer
	bash .ci/sanitize

clean:  ## remove the environment and everything that was built
	rm -rf $(VENV) build dist *.egg-info fusionkit/*.so

$(VENV)/.environment: pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "setuptools>=77" wheel ninja "pybind11>=2.13" numpy "torch>=2.10"
	touch $@

# Against the torch that is installed: faster than an isolated build, which would fetch another one.
$(VENV)/.installed: $(VENV)/.environment $(SOURCES)
	$(BIN)/python -m pip install --quiet --no-build-isolation ".[demo,tensorboard,test]"
	touch $@

$(VENV)/.linters: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet "ruff>=0.14" "mypy>=1.15" "clang-format>=18" "import-linter>=2.3"
	touch $@

$(VENV)/.dev: $(VENV)/.environment
	$(BIN)/python -m pip install --quiet --no-build-isolation -e ".[demo,tensorboard,test,dev]"
	$(BIN)/pre-commit install
	touch $(VENV)/.installed $(VENV)/.linters $@
