# Two commands on a fresh machine: `make demo` and `make test`. Both set themselves up.
PYTHON ?= python3.11
EXTRAS ?= production,synthetic,test,lint
# PIP_ARGS adds an index with CPU builds of torch where pip would take the large CUDA build.
PIP_ARGS ?=
BIN := .venv/bin
STAMP := .venv/installed-$(shell cat pyproject.toml constraints.txt | sha256sum | cut -c1-16)

.PHONY: install demo test test-full lint types bench clean help
help:
	@echo "make demo       set up and run three demonstration hospitals (http://127.0.0.1:8001 to 8003) and a coordinator (8000)"
	@echo "make test       set up and run the tests"
	@echo "make lint types code style, import rules, dependency and type checks"
	@echo "make test-full  everything, including the long attacks"
	@echo "make bench      benchmarks against named opponents"

install: $(STAMP)
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[$(EXTRAS)]'
	@rm -f .venv/installed-* && touch $(STAMP)

demo: install
	$(BIN)/python manage.py demo

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-full: install
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/deptry .

types: install
	$(BIN)/mypy

bench: install
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
