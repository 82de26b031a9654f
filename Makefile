# smi-xds. `make` lists what there is.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Tests that start Envoys or an API server share two cores with their neighbours.
JOBS   ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test lint types imports unit coverage golden protos check lock bench clean format

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  \033[1m%-10s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --no-deps: the lock has all of them, and overrides what one asks for (tool.uv in pyproject.toml).
$(VENV)/.installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

install: $(VENV)/.installed ## make the virtual environment
.PHONY: install

demo: install ## watch real Envoys obey SMI objects (Ctrl-C ends it)
	@$(BIN)/smi-xds demo $(ARGS)

test: lint types imports unit ## everything that CI runs

lint: install ## ruff and bandit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive smi_xds

format: install ## let ruff rewrite
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: install ## mypy, strict
	$(BIN)/mypy

imports: install ## who may import whom
	$(BIN)/lint-imports

unit: install ## pytest, all of it, with the coverage of the pure rooms
	$(BIN)/python -m tests.run -n $(JOBS) $(ARGS)

golden: install ## rewrite and prune the golden cases, then read the diff
	$(BIN)/python -m tests.golden

protos: install ## compile protos/ anew, then read the diff
	$(BIN)/python protos/compile.py

crds: install ## write the CRDs in deploy/ anew
	$(BIN)/python -m deploy.generate
.PHONY: crds

check: install ## the problems of the examples
	$(BIN)/smi-xds check --files examples

lock: install ## resolve requirements.lock anew, and from it that of the image
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --group dev \
	  --generate-hashes --no-header --no-emit-index-url --upgrade pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --constraints requirements.lock \
	  --generate-hashes --no-header --no-emit-index-url pyproject.toml -o requirements-image.lock

bench: install ## measure; see benchmarks/README.md
	$(BIN)/python -m benchmarks $(ARGS)

soak: install ## 20 minutes of proxies that come and go: is memory flat?
	$(BIN)/python -m benchmarks.soak $(ARGS)
.PHONY: soak

# Not in CI: it takes a quarter of an hour. mutmut is of no other use, so it is not in the lock.
mutants: install ## change the xDS session in a thousand ways: do the tests notice?
	@$(BIN)/pip install --quiet --disable-pip-version-check 'mutmut>=3.8,<3.9'
	$(BIN)/python -m tests.mutants $(ARGS)
.PHONY: mutants

oracle: install ## real Envoys against the SMI oracle: 300 random meshes (ARGS="--meshes N --seed N")
	$(BIN)/python -m tests.oracle $(ARGS)
.PHONY: oracle

faults: install ## API server, etcd and replicas fail for a minute each (ARGS="--outage N --cuts N")
	$(BIN)/python -m tests.faults $(ARGS)
.PHONY: faults

rotation: install ## certificates that change under load, for ten minutes (ARGS="--seconds N")
	$(BIN)/python -m tests.rotation $(ARGS)
.PHONY: rotation

fuzz: install ## break what strangers send, for a quarter of an hour instead of seconds
	SMI_XDS_FUZZ_EXAMPLES=$(or $(EXAMPLES),20000) $(BIN)/python -m pytest tests/fuzz -n $(JOBS) --timeout 3600 $(ARGS)
.PHONY: fuzz

# Not in CI: it asks a service on the network. pip-audit is of no other use, so it is not in the lock.
audit: install ## has anything that is locked a known vulnerability?
	@$(PYTHON) -m venv $(VENV)-audit
	@$(VENV)-audit/bin/pip install --quiet --disable-pip-version-check 'pip-audit==2.10.1'
	$(BIN)/python -m tests.audit $(VENV)-audit/bin/pip-audit
.PHONY: audit

clean: ## remove what was built here
	rm -rf $(VENV) $(VENV)-audit dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis mutants .coverage*
