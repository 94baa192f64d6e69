# Every verb a person types. `make` alone lists them.
.DEFAULT_GOAL := help
CARGO ?= cargo
# Pre-emptions that loom explores in the ordinary run: enough for every race that two or three threads can have in one
# operation each, in seconds. `make loom-full` explores all of them.
LOOM_MAX_PREEMPTIONS ?= 3

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: format-check lint features unit doctest loom docs tower tonic reqwest quickstart sidecar-peers python ## everything that CI checks; sets up what it needs

demo: ## three servers in trouble, and callers before the sidecar who do not notice: nine seconds
	$(CARGO) run --release -p service-mesh-proxy -- demo

quickstart: ## the same story by the library, without a sidecar
	$(CARGO) run --release --bin quickstart

tower: ## a tower client over hyper, and three servers
	$(CARGO) run -p service-mesh --features tokio,tower --example tower_hyper

tonic: ## a gRPC client with tonic, in a workspace of its own: lint it and run it
	cd examples/tonic && $(CARGO) fmt --check && $(CARGO) clippy -- -D warnings && $(CARGO) run

reqwest: ## an HTTP client with reqwest, in a workspace of its own: lint it and run it
	cd examples/reqwest && $(CARGO) fmt --check && $(CARGO) clippy -- -D warnings && $(CARGO) run

format: ## format the code
	$(CARGO) fmt --all

format-check: ## check the format
	$(CARGO) fmt --all -- --check

lint: ## clippy, warnings are errors
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings

features: ## each set of features builds by itself
	$(CARGO) check -p service-mesh-models
	$(CARGO) check -p service-mesh-models --features serde
	$(CARGO) check -p service-mesh-models --features schema
	$(CARGO) check -p service-mesh
	$(CARGO) check -p service-mesh --features serde
	$(CARGO) check -p service-mesh --features policy_file
	$(CARGO) check -p service-mesh --features schema
	$(CARGO) check -p service-mesh --features tokio
	$(CARGO) check -p service-mesh --features macros
	$(CARGO) check -p service-mesh --features metrics
	$(CARGO) check -p service-mesh --features tracing
	$(CARGO) check -p service-mesh --features tower

unit: ## unit, property, stress and conformance tests
	$(CARGO) test --workspace --all-features --lib --bins --tests

doctest: ## every documented example runs
	$(CARGO) test --workspace --all-features --doc

prose: ## what the pages name exists; their examples run as doctests
	$(CARGO) test -p service-mesh --all-features --test prose

conformance: ## the scenarios of conformance/, by the pure core, the sync, async and tower drivers, and the sidecar
	$(CARGO) test -p service-mesh --all-features --test it conformance
	$(CARGO) test -p service-mesh-proxy --test it conformance

loom: ## model-check the races, with bounded pre-emptions
	RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=$(LOOM_MAX_PREEMPTIONS) \
		$(CARGO) test --release -p service-mesh --test loom --target-dir target/loom

loom-full: ## the same, unbounded: minutes to hours
	RUSTFLAGS="--cfg loom" $(CARGO) test --release -p service-mesh --test loom --target-dir target/loom

schema: ## write the JSON Schema of the policy file anew
	$(CARGO) run -p service-mesh --features schema --example policy_schema -- docs/policy.schema.json

docs: ## build the documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --all-features --no-deps

# What runs between two threads is pinned to cores 0 and 1; pingora's build needs cmake, and is left out without it.
BENCH = cd peers && $(CARGO) run --release -p peers-bench $(if $(shell command -v cmake),--features pingora)

bench: ## time service-mesh beside its peers, in one run (keep the machine quiet)
	$(BENCH)

compare: ## all figures, anew into COMPARE.md: 5 minutes, keep the machine quiet
	mkdir -p peers/target
	cd peers && $(CARGO) run -p peers-conformance > target/faults.md
	cd peers && for program in service_mesh recloser failsafe tower_resilience; do \
		$(CARGO) run -p peers-programs --example $$program || exit 1; done
	$(BENCH) > target/figures.md
	cd peers && $(CARGO) run --release -p peers-bench --bin memory > target/memory.md
	cd peers && $(CARGO) build --release -p peers-bench --bin splice
	cd peers && for table in faults figures memory; do \
		target/release/splice $$table ../COMPARE.md < target/$$table.md || exit 1; done

# Programs that nobody here has written, before and behind the sidecar. Debian's are installed where they are missing and
# that is possible; Python's live in an environment of their own. Some of them are where only root's PATH looks.
SIDECAR_PEERS = target/sidecar-peers
sidecar-peers bench-sidecar: export PATH := $(PATH):/usr/sbin
sidecar-peers: sidecar-programs $(SIDECAR_PEERS)/stamp ## the sidecar among curl, nginx, dnsmasq, httpx, websockets and uvicorn
	$(CARGO) build -p service-mesh-proxy
	cd crates/proxy/tests/peers && SERVICE_MESH=$(CURDIR)/target/debug/service-mesh PYTHONDONTWRITEBYTECODE=1 \
		$(CURDIR)/$(SIDECAR_PEERS)/bin/pytest --quiet $(PYTEST)

sidecar-programs:
	@{ command -v curl && command -v nginx && command -v dnsmasq; } >/dev/null \
		|| { test "$$(id -u)" = 0 && apt-get install -y --no-install-recommends curl nginx-light dnsmasq-base; } \
		|| { echo "curl, nginx and dnsmasq, the sidecar's peers, are missing: apt-get install curl nginx-light dnsmasq-base"; exit 1; }

$(SIDECAR_PEERS)/stamp: crates/proxy/tests/peers/requirements.txt
	test -x $(SIDECAR_PEERS)/bin/pip || $(PYTHON) -m venv --clear $(SIDECAR_PEERS)
	$(SIDECAR_PEERS)/bin/python -m pip install --quiet --upgrade --requirement $<
	touch $@

# Whoever works on the Python door needs PYTHON, 3.11 or later with venv; the rest is set up in target/python. What the
# tests import and what checks and builds is said in the groups of pyproject.toml, once.
PYTHON ?= python3
PYTHON_TOOLS = target/python/tools
PYTHON_WHEELS = target/python/wheels
MATURIN = cd python && $(CURDIR)/$(PYTHON_TOOLS)/bin/maturin build --release --quiet
# Into an environment that has no pip.
PYTHON_INSTALL = $(PYTHON_TOOLS)/bin/python -m pip --python

python: python-lint python-test python-others python-sdist ## Python: all of the following that checks

python-wheel: $(PYTHON_TOOLS)/stamp ## Python: the wheel for PYTHON, into target/python/wheels
	rm -rf $(PYTHON_WHEELS)/own
	$(MATURIN) --interpreter $(CURDIR)/$(PYTHON_TOOLS)/bin/python --out $(CURDIR)/$(PYTHON_WHEELS)/own

# In a directory of its own: what is compiled for one interface is of no use to the other.
python-wheel-abi3: $(PYTHON_TOOLS)/stamp ## Python: the wheel for 3.12 and later, into target/python/wheels
	rm -rf $(PYTHON_WHEELS)/abi3
	$(MATURIN) --features pyo3/abi3-py312 --target-dir $(CURDIR)/target/python/abi3 --out $(CURDIR)/$(PYTHON_WHEELS)/abi3

python-test: python-wheel ## Python: install the wheel into a new environment, and run the suite there
	$(MAKE) --no-print-directory python-suite

python-others: python-wheel-abi3 ## Python: the same with every other Python, 3.12 or later, that is found
	$(PYTHON_TOOLS)/bin/python python/interpreters.py | xargs -P 2 -I {} \
		$(MAKE) --no-print-directory python-suite INTERPRETER={} ENVIRONMENT=target/python/others{} WHEELS=abi3

# It brings the crates that it is made from, and their Cargo.lock.
python-sdist: $(PYTHON_TOOLS)/stamp ## Python: the source distribution, built from itself and installed
	rm -rf target/python/sdist
	cd python && $(CURDIR)/$(PYTHON_TOOLS)/bin/maturin sdist --out $(CURDIR)/target/python/sdist
	PATH=$(CURDIR)/$(PYTHON_TOOLS)/bin:$$PATH CARGO_TARGET_DIR=$(CURDIR)/target \
		$(PYTHON_TOOLS)/bin/python -m pip wheel --quiet --no-index --no-deps --no-build-isolation \
		--wheel-dir target/python/sdist target/python/sdist/*.tar.gz
	$(PYTHON_TOOLS)/bin/python -m venv --clear --without-pip target/python/from-sdist
	$(PYTHON_INSTALL) target/python/from-sdist/bin/python install --quiet --no-index target/python/sdist/*.whl
	cd target/python/from-sdist && bin/python -m codomyrmex.service_mesh --help

INTERPRETER = $(PYTHON_TOOLS)/bin/python
ENVIRONMENT = target/python/test
WHEELS = own

# From a directory that holds no source, so that nothing can be imported but what was installed.
python-suite: $(PYTHON_TOOLS)/stamp
	rm -rf $(ENVIRONMENT)
	$(INTERPRETER) -m venv --without-pip $(ENVIRONMENT)
	$(PYTHON_INSTALL) $(ENVIRONMENT)/bin/python install --quiet --group pyproject.toml:test
	$(PYTHON_INSTALL) $(ENVIRONMENT)/bin/python install --quiet --no-index $(PYTHON_WHEELS)/$(WHEELS)/*.whl
	cd $(ENVIRONMENT) && SERVICE_MESH_WHEEL=$$(echo $(CURDIR)/$(PYTHON_WHEELS)/$(WHEELS)/*.whl) \
		bin/pytest --quiet --config-file=$(CURDIR)/pyproject.toml $(PYTEST) $(CURDIR)/python/tests

python-format: $(PYTHON_TOOLS)/stamp ## Python: format the code, and sort its imports
	$(PYTHON_TOOLS)/bin/ruff format --quiet python crates/proxy
	$(PYTHON_TOOLS)/bin/ruff check --quiet --select I --fix python crates/proxy

python-lint: python-wheel ## Python: format, lint, and types; the stubs agree with the wheel
	$(PYTHON_TOOLS)/bin/ruff format --check --quiet --diff python crates/proxy
	$(PYTHON_TOOLS)/bin/ruff check --quiet python crates/proxy
	$(PYTHON_TOOLS)/bin/mypy
	$(PYTHON_TOOLS)/bin/pyright --pythonpath $(PYTHON_TOOLS)/bin/python
	$(PYTHON_TOOLS)/bin/python -m pip install --quiet --no-index --force-reinstall $(PYTHON_WHEELS)/own/*.whl
	cd $(PYTHON_TOOLS) && bin/stubtest --concise codomyrmex.service_mesh

# Kept while what it is made from stays the same.
$(PYTHON_TOOLS)/stamp: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=...")'
	test -x $(PYTHON_TOOLS)/bin/pip || $(PYTHON) -m venv --clear $(PYTHON_TOOLS)
	$(PYTHON_TOOLS)/bin/python -m pip install --quiet --upgrade pip
	$(PYTHON_TOOLS)/bin/python -m pip install --quiet --group dev
	touch $@

# The peers and the wheel live in an environment of their own.
BENCH_ENVIRONMENT = target/bench-python

bench-python: ## Python: time it beside its peers, anew into COMPARE.md: 5 minutes, keep the machine quiet
	test -x $(BENCH_ENVIRONMENT)/bin/python || $(PYTHON) -m venv $(BENCH_ENVIRONMENT)
	$(BENCH_ENVIRONMENT)/bin/python -m pip install --quiet --upgrade pip maturin -r python/bench/requirements.txt
	cd python && ../$(BENCH_ENVIRONMENT)/bin/python -m maturin build --release --quiet \
		--interpreter ../$(BENCH_ENVIRONMENT)/bin/python --out ../$(BENCH_ENVIRONMENT)/wheel
	$(BENCH_ENVIRONMENT)/bin/python -m pip install --quiet --force-reinstall --no-index --find-links $(BENCH_ENVIRONMENT)/wheel \
		codomyrmex-service-mesh
	$(BENCH_ENVIRONMENT)/bin/python python/bench > target/python.md
	cd peers && $(CARGO) run --quiet --release -p peers-bench --bin splice python ../COMPARE.md < ../target/python.md

bench-sidecar: ## the sidecar's CPU for a request beside nginx, anew into COMPARE.md: 4 minutes, keep the machine quiet
	@{ command -v wrk && command -v nginx; } >/dev/null \
		|| { test "$$(id -u)" = 0 && apt-get install -y --no-install-recommends wrk nginx-light; } \
		|| { echo "wrk and nginx are missing: apt-get install wrk nginx-light"; exit 1; }
	$(CARGO) build --release -p service-mesh-proxy
	$(PYTHON) crates/proxy/bench/cpu.py target/release/service-mesh --page COMPARE.md

bench-instructions: valgrind ## count instructions; fails where a commit has made a path dearer by more than 5 %
	$(CARGO) run --release -p service-mesh-bench --bin instructions -- check

record-instructions: valgrind ## the new counts become the recorded ones: a commit says why
	$(CARGO) run --release -p service-mesh-bench --bin instructions -- record

valgrind:
	@command -v valgrind >/dev/null || { test "$$(id -u)" = 0 && apt-get install -y valgrind; } \
		|| { echo "valgrind, which counts the instructions, is missing: install it, e.g. apt-get install valgrind"; exit 1; }

clean: ## remove what was built
	$(CARGO) clean

.PHONY: help test demo quickstart sidecar-peers sidecar-programs tower tonic reqwest format format-check lint features unit doctest prose conformance loom loom-full schema docs \
	clean python python-wheel python-wheel-abi3 python-test python-others python-sdist python-suite python-format python-lint bench bench-python bench-sidecar compare bench-instructions record-instructions valgrind
