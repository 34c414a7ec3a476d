# Everything here sets itself up: `make demo` and `make test` work on a fresh Debian or Ubuntu with Python,
# make and git alone, and need no network the second time.

PYTHON := .venv/bin/python

.PHONY: demo run-shop test check lint format lock wheel-check clean help

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: .setup  ## Play the whole shop through on this machine, without accounts or internet
	@$(PYTHON) -m smi_desktop demo --headless

run-shop: .setup  ## Open a rehearsal shop and keep it open (Ctrl+C ends it)
	@$(PYTHON) -m smi_desktop demo --serve

test: .setup-tests  ## Run all tests
	@$(PYTHON) -m pytest --cov --cov-report=term --cov-fail-under=95

lint: .setup  ## Check format, style, types and the dependency rule
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

check: lint test  ## Everything that must be clean before a commit

format: .setup  ## Put the code into its form
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

wheel-check: .setup  ## Install the wheel without extras elsewhere and run the demo from it (needs the network)
	@packaging/check-wheel.sh

lock:  ## Write requirements.lock anew (needs uv)
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
		--generate-hashes --no-header -o requirements.lock

clean:  ## Remove everything that was made here
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build .coverage

.PHONY: .setup .setup-tests
.setup:
	@packaging/setup.sh

.setup-tests:
	@packaging/setup.sh --tests
