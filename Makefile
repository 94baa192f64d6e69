# Every verb a person types. `make` alone lists them.
.DEFAULT_GOAL := help
CARGO ?= cargo
# Pre-emptions that loom explores in the ordinary run: enough for every race that two or three threads can have in one
# operation each, in seconds. `make loom-full` explores all of them.
LOOM_MAX_PREEMPTIONS ?= 3

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: format-check lint features unit doctest loom docs tower tonic reqwest quickstart ## everything that CI checks; sets up what it needs

quickstart: ## the main job: three servers, trouble, and a story
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

conformance: ## the scenarios of conformance/, by the pure core and the sync, async and tower drivers
	$(CARGO) test -p service-mesh --all-features --test it conformance

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

bench-instructions: valgrind ## count instructions; fails where a commit has made a path dearer by more than 5 %
	$(CARGO) run --release -p service-mesh-bench --bin instructions -- check

record-instructions: valgrind ## the new counts become the recorded ones: a commit says why
	$(CARGO) run --release -p service-mesh-bench --bin instructions -- record

valgrind:
	@command -v valgrind >/dev/null || { test "$$(id -u)" = 0 && apt-get install -y valgrind; } \
		|| { echo "valgrind, which counts the instructions, is missing: install it, e.g. apt-get install valgrind"; exit 1; }

clean: ## remove what was built
	$(CARGO) clean

.PHONY: help test quickstart tower tonic reqwest format format-check lint features unit doctest prose conformance loom loom-full schema docs \
	clean bench compare bench-instructions record-instructions valgrind
