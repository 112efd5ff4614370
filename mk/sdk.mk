# SPDX-License-Identifier: Apache-2.0
# The SDKs.  Not part of `make test`: besides what the rest needs, `make check-sdk`
# needs Node.js 18 (Debian: nodejs), cargo with rustc 1.63 (Debian: cargo) and, for the
# crates and TypeScript, the registries of Rust and npm.  Users of the Python and
# JavaScript packages need none of that.

SDK_OUT := $(abspath $(O))/sdk
SDK_PYTHON ?= /usr/bin/python3
# "tls" needs rustc 1.71; with an empty one the crate is tested without https.
SDK_RUST_FEATURES ?= tls
SDK_CARGO = CARGO_TARGET_DIR=$(SDK_OUT)/rust cargo
SDK_RUST_DRIVER := $(SDK_OUT)/rust/debug/examples/conformance_driver

.PHONY: check-sdk check-sdk-fast check-sdk-types sdk-types sdk-rust sdk-dist check-sdk-typescript

check-sdk: check-sdk-fast all kernel demo-image ## the SDKs, all that can be checked (needs node, npm, cargo, python3-venv)
	$(Q)O=$(O) MSB_TEST_SDKS=python,python-sync,javascript,rust,c MSB_TEST_RUST_DRIVER=$(SDK_RUST_DRIVER) \
		$(SDK_PYTHON) -m pytest -q tests/e2e/test_sdk.py tests/e2e/test_clib.py $(ARGS)

check-sdk-fast: check-sdk-typescript sdk-rust clib ## the SDKs, without a VM
	$(Q)tools/gen-sdk-types --check
	$(Q)cd sdk/python && PYTHONPATH=src $(SDK_PYTHON) -W error::ResourceWarning -m unittest discover -q -s tests
	$(Q)cd sdk/javascript && node --test test/package.test.mjs
	$(Q)cd sdk/rust && $(SDK_CARGO) test --locked -q --features "$(SDK_RUST_FEATURES)"
	$(Q)$(SDK_PYTHON) tests/conformance/run.py --quick --rust-driver $(SDK_RUST_DRIVER) \
		--c-driver $(CAPI_DRIVER) $(wildcard tests/conformance/peer*.json)

sdk-rust: ## the Rust crate, its examples and its driver of the shared cases
	$(Q)cd sdk/rust && $(SDK_CARGO) build --locked --examples --features "$(SDK_RUST_FEATURES)"

check-sdk-types: ## are the SDKs' types those of api/openrpc.json?
	$(Q)tools/gen-sdk-types --check
sdk-types: ## make the SDKs' types from api/openrpc.json
	$(Q)tools/gen-sdk-types

# Fixed, so that a new compiler does not break old sources.
SDK_TYPESCRIPT := 5.9.3
check-sdk-typescript: $(SDK_OUT)/typescript/node_modules/.bin/tsc
	$(Q)$< -p sdk/javascript
$(SDK_OUT)/typescript/node_modules/.bin/tsc:
	$(Q)mkdir -p $(SDK_OUT)/typescript
	$(Q)cd $(SDK_OUT)/typescript && npm install --silent --no-audit --no-fund --prefix . typescript@$(SDK_TYPESCRIPT)

# From a copy, so that the tree stays as it is.
sdk-dist: ## packages of the SDKs, in $(O)/sdk/dist (needs python3-setuptools, python3-wheel, npm, cargo)
	$(Q)rm -rf $(SDK_OUT)/src $(SDK_OUT)/dist && mkdir -p $(SDK_OUT)/dist && cp -r sdk $(SDK_OUT)/src
	$(Q)for d in $(SDK_OUT)/src/*; do cp LICENSE $$d; done
	$(Q)cd $(SDK_OUT)/src/python && $(SDK_PYTHON) -W ignore -c "from setuptools import build_meta as b; \
		[f('$(SDK_OUT)/dist') for f in (b.build_sdist, b.build_wheel)]" > $(SDK_OUT)/python.log 2>&1 \
		|| { cat $(SDK_OUT)/python.log; exit 1; }
	$(Q)cd $(SDK_OUT)/src/javascript && npm pack --silent --pack-destination $(SDK_OUT)/dist > /dev/null
	$(Q)cd $(SDK_OUT)/src/rust && $(SDK_CARGO) package --locked --allow-dirty --no-verify -q
	$(Q)cp $(SDK_OUT)/rust/package/*.crate $(SDK_OUT)/dist && ls $(SDK_OUT)/dist
