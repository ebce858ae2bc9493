# The commands for developers; CI (.ci/run) uses the same.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PAGES := $(VENV)/.installed-docs

.DEFAULT_GOAL := help
.PHONY: help setup story docs docs-serve test test-all test-newest test-ranges check check-format check-lint check-mypy check-pyright format clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | while IFS='|' read -r verb what; do printf '  make %-11s %s\n' "$$verb" "$$what"; done

setup: $(STAMP) ## Create .venv and install the package with every extra and the development tools

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mgem-agent needs Python 3.11 or newer, and $(PYTHON) is older. Run: make setup PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV); torch is large, so the first install takes some minutes."
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
	@touch $(STAMP)

story: setup ## Write an illustrated story to book/, describe its first picture and redraw it
	$(BIN)/mgem story the_dragon --out book
	@echo "What nano sees on the first page:"
	@$(BIN)/mgem see "book/pictures/$$(grep -om1 'img-[0-9a-f]*' book/story.json).png" "What do you see?"
	@echo "Redrawing the first page from its record:"
	@$(BIN)/mgem story replay book/story.json --page 1
	@echo "Open book/book.html in a browser."

test: setup ## Run the tests, except the slow ones
	$(BIN)/pytest

test-all: setup ## Run all tests, including the slow ones
	$(BIN)/pytest -m ""

test-newest: setup ## Test the core model with the newest allowed transformers
	.ci/test-newest

test-ranges: ## Test with the lowest and the newest allowed dependencies (installs torch twice)
	PYTHON=$(PYTHON) .ci/test-ranges

docs: $(PAGES) ## Build the documentation site into build/site; a broken link fails
	$(BIN)/python docs/reference_pages.py
	$(BIN)/zensical build --strict --clean

docs-serve: $(PAGES) ## Serve the documentation site at http://localhost:8000
	$(BIN)/python docs/reference_pages.py
	$(BIN)/zensical serve

$(PAGES): $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $(PAGES)

check: check-format check-lint check-mypy check-pyright ## Check formatting, lint and types

check-format: setup
	$(BIN)/ruff format --check .

check-lint: setup
	$(BIN)/ruff check .

check-mypy: setup
	$(BIN)/mypy -p mgem_agent

check-pyright: setup
	$(BIN)/pyright

format: setup ## Format the code and apply automatic lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove build and cache files, except .venv
	rm -rf build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
