# Needs Python 3.11 or newer and make; everything else goes into .venv. `make help` lists the targets.

PYTHON ?= python3
TORCH_INDEX ?=
ARGS ?=
PYTEST_ARGS ?=
DOCKER ?= docker
OUT ?= benchmarks/results

BIN := .venv/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup train test test-slow test-all lint docs bench audit docker clean

help: ## list the targets
	@awk -F ' *## *' '/^[a-z-]+:.*## / { sub(/:.*/, "", $$1); printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  PYTHON=python3.12             the interpreter that makes .venv (3.11 or newer)'
	@echo '  TORCH_INDEX=URL               where torch comes from; for the build without CUDA,'
	@echo '                                https://download.pytorch.org/whl/cpu'
	@echo '  Either takes effect when .venv is made: make clean comes first.'

setup: .venv/.project ## make .venv: requirements.txt and this project

train: setup ## train; overrides in ARGS="decoder=gaussian latent_dim=2"
	$(BIN)/python -m vaelab.train $(ARGS)

test: .venv/.dev ## run the tests; more for pytest in PYTEST_ARGS="-x -k heads"
	$(PYTEST) $(PYTEST_ARGS)

test-slow: .venv/.dev ## run the tests that make test leaves out, because they take long
	$(PYTEST) -m "slow and not exhaustive" $(PYTEST_ARGS)

test-all: .venv/.dev ## run all tests, also matrices that .ci/run leaves out
	$(PYTEST) -m "" $(PYTEST_ARGS)

lint: .venv/.dev ## check style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache --no-logo

docs: .venv/.dev ## write the reference of the Python interface to build/docs
	$(BIN)/python scripts/api_reference.py build/docs

bench: setup ## time steps, evaluation and start on an idle machine, in ten minutes; tables and JSON go to OUT=folder
	$(BIN)/python benchmarks/run.py --rounds 5 --seconds 0.5 --out $(OUT)
	$(BIN)/python benchmarks/evaluation.py --examples 300 --out $(OUT)
	$(BIN)/python benchmarks/start.py --rounds 3 --out $(OUT)

audit: .venv/.project .venv/.audit ## ask for known vulnerabilities of what is installed
	.venv/audit/bin/pip-audit --vulnerability-service osv --skip-editable \
		--path "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

# a TORCH_INDEX that is given goes to the image, an empty one too: it asks for pip's default index instead of the image's
docker: ## build the image vaelab; with CUDA: TORCH_INDEX= ; another engine: DOCKER=podman
	$(DOCKER) build --tag vaelab $(if $(filter-out file,$(origin TORCH_INDEX)),--build-arg TORCH_INDEX='$(TORCH_INDEX)') .

clean: ## remove .venv and what the tools left; logs/ and data/ stay
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# Each step leaves a stamp, touched last: an interrupted step runs again, a finished one only when its file changes.

.venv/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo >&2 \
	"vaelab needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>/dev/null || echo absent): add PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

# torch alone comes from its own index, so that no other package can
.venv/.requirements: requirements.txt .venv/.created
	$(if $(TORCH_INDEX),$(INSTALL) --no-deps --extra-index-url $(TORCH_INDEX) $$(grep '^torch==' $<))
	$(INSTALL) -r $<
	@touch $@

.venv/.project: pyproject.toml .venv/.requirements
	$(INSTALL) --no-deps --editable .
	@touch $@

# in an environment of its own, which its many dependencies cannot change
.venv/.audit: .venv/.created
	$(BIN)/python -m venv .venv/audit
	.venv/audit/bin/python -m pip --disable-pip-version-check install pip-audit==2.10.1
	@touch $@

.venv/.dev: requirements-dev.txt .venv/.project
	$(INSTALL) -r $<
	@touch $@
