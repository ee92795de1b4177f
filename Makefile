# Two commands do everything on a fresh Debian or Ubuntu machine: `make demo` and `make test`.
SHELL := /bin/bash
.DELETE_ON_ERROR:
export PATH := $(CURDIR)/.venv/bin:$(HOME)/.cargo/bin:$(PATH)

.PHONY: help setup build demo demo-stop lint test unit runner-test e2e test-faults test-images bench bench-env

help: ## Show this list.
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## Install what is missing (apt, pip, Rust).
	@scripts/setup

build: setup ## Build target/release/luthier.
	LIBSECCOMP_LINK_TYPE=static LIBSECCOMP_LIB_PATH=$$(pkg-config --variable=libdir libseccomp) \
	  cargo build --release --locked --bin luthier

demo: build ## Run the main job and leave a server running.
	@scripts/demo

demo-stop: ## Stop the demo's server and its containers, and remove its data.
	@scripts/demo-stop

lint: setup ## Check formatting and lints.
	cargo fmt --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

unit: setup ## Rust tests, with real containers and interpreters.
	@scripts/setup test
	cargo test --workspace --locked

runner-test: setup ## The runner on CPython 3.9 to 3.13.
	python3 crates/runner/tests/run.py

e2e: setup ## The stock clients against a real server with real containers.
	@scripts/setup test
	cargo build --locked --bin luthier
	scripts/e2e target/debug/luthier

test-faults: setup ## What is killed, full, locked, slow, hostile: all of it, about 15 minutes.
	@scripts/setup test
	cargo build --locked --bin luthier
	mkdir -p target/e2e-cache
	LUTHIER_BINARY=$(CURDIR)/target/debug/luthier LUTHIER_TEST_CACHE=$(CURDIR)/target/e2e-cache \
	  "$$(scripts/client-venv 3.14.1)" -m pytest -p no:cacheprovider \
	  tests/e2e/faults tests/e2e/test_killed.py tests/e2e/test_under_load.py

test-images: setup ## Every image, deep-learning (5 GB) too: what it promises, and a real model on it.
	cargo build --locked --bin luthier
	scripts/train-examples target/debug/luthier "$(CURDIR)/target/e2e-cache/train" "$(CURDIR)/target/e2e-cache"
	LUTHIER_BINARY=$(CURDIR)/target/debug/luthier LUTHIER_TEST_CACHE=$(CURDIR)/target/e2e-cache \
	  LUTHIER_TEST_LARGE_IMAGES=1 "$$(scripts/client-venv 3.14.1)" -m pytest -p no:cacheprovider \
	  tests/e2e/test_catalogue.py tests/e2e/test_models_on_images.py

test: lint unit runner-test e2e ## Everything CI runs.

bench: build ## Measure beside peers; prints a table of ratios.
	@scripts/setup bench
	bench/run target/release/luthier

bench-env: build ## Measure environments and replica starts beside pip and uv.
	bench/env/run target/release/luthier
