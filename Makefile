# One command for everything. The logic is in tools/ (`python -m tools.NAME` does the same without make).
# Variables: PYTHON=python3.13  PROFILE=dev (faster native build)  PORT=8080  ARGS="..." (passed on)

PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do command -v $$name && break; done)
IN_VENV = .venv/bin/python -m

help:  ## Shows this list.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

setup:  ## Makes .venv with the pinned tools, and installs Rust if it is missing.
	@test -n "$(PYTHON)" || { echo "setup: no python3 on PATH: install Python 3.11 or newer"; exit 1; }
	@"$(PYTHON)" -m tools.setup

build: setup  ## Builds the native module, if its sources have changed.
	@$(IN_VENV) tools.native

run: build  ## Serves examples/hello.py on PORT (8080).
	@$(IN_VENV) tools.serve

test: build  ## Runs all tests: Rust's and Python's. ARGS goes to pytest.
	@$(IN_VENV) tools.check --only cargo-test,pytest -- $(ARGS)

check: setup  ## Does all that CI does: format, lints, types, stubs, tests.
	@$(IN_VENV) tools.check

fix: setup  ## Formats, and mends what the linter can mend safely.
	@$(IN_VENV) tools.check --fix

bench: build  ## Measures the server beside its peers (../shared/bench/peers). ARGS goes to compare.
	@$(IN_VENV) tools.bench $(ARGS)

publish-bench: build  ## Measures one publisher and many subscribers, beside peers in Go and Node.
	@$(IN_VENV) tools.publish_bench $(ARGS)

tls-bench: build  ## Measures HTTP/1.1 and HTTP/2 over TLS beside Go, with h2load.
	@$(IN_VENV) tools.tls_bench $(ARGS)

conformance: build  ## Runs the black-box HTTP/1.1 cases (../shared/conformance). ARGS goes to http1.
	@$(IN_VENV) tools.conformance $(ARGS)

autobahn: build  ## Runs the Autobahn testsuite on WebSockets. ARGS=--full takes a quarter of an hour.
	@$(IN_VENV) tools.autobahn $(ARGS)

browser: setup  ## Installs Chromium and its driver, for the tests in a real browser (Debian, as root).
	@$(IN_VENV) tools.browser

stress: build  ## Runs the stress tests at full size.
	@$(IN_VENV) pytest -q -m stress --effort 20 $(ARGS)

stress-jitter: setup  ## The tests against races, with random delays at each hand-over. ARGS="--rounds 10"
	@$(IN_VENV) tools.jitter $(ARGS)

miri: setup  ## Rust's tests that need no socket, in Miri: undefined behaviour, data races. ARGS="--only core"
	@$(IN_VENV) tools.miri $(ARGS)

attack: build  ## Runs the attack tests at full size: hostile clients by the thousand, over loopback.
	@$(IN_VENV) pytest -q -m attack --effort 20 $(ARGS)

soak: build  ## Half an hour of mixed load, after which nothing may have grown. ARGS="--minutes 5 --out docs"
	@$(IN_VENV) tools.soak $(ARGS)

stop-load: build  ## Stops a server under 100,000 requests, ten times: not one may be lost. ARGS="--times 3"
	@$(IN_VENV) tools.stop_load $(ARGS)

audit: setup  ## Licences and sources of what is built on, and known vulnerabilities where the data can be had.
	@$(IN_VENV) tools.audit $(ARGS)

fuzz: setup  ## Fuzzes each parser for a minute. ARGS: targets, --seconds, --jobs.
	@$(IN_VENV) tools.fuzz $(ARGS)

free-threaded: setup  ## Builds a CPython without the GIL and runs the Python tests on it.
	@$(IN_VENV) tools.free_threaded $(ARGS)

.PHONY: help setup build run test check fix bench publish-bench tls-bench conformance autobahn browser stress stress-jitter miri attack soak stop-load audit fuzz free-threaded
