# One command per need; the same commands run in CI.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEED ?= 1
N ?= 20000
MINUTES ?= 0
FAULTS ?= 50
CHAOS ?=
MUTANTS ?=
BOUNDS ?=
BENCH ?= --latency --faults --codecs --actions --page

.PHONY: help demo bench test check sim broker chaos airflow mutants bounds format docs clean

help:
	@echo "make demo     the main job on a real Kafka, PostgreSQL and Debezium, judged at the end"
	@echo "make bench    the same job done by others, measured and judged: BENCH='--help' for parts of it"
	@echo "make test     all tests: check, local services, a real Kafka under kill -9"
	@echo "make check    format, lint, types, layers, source, core, simulation: about five minutes"
	@echo "make sim      more histories: make sim N=50000 SEED=7"
	@echo "make broker   tests on a real Kafka"
	@echo "make chaos    faults to workers, brokers and protocol: SEED=7 MINUTES=10 FAULTS=50 CHAOS='--help'"
	@echo "make airflow  actions on a real Airflow, which it installs into build/: two minutes"
	@echo "make mutants  each invariant broken on purpose in a copy: a test must go red: MUTANTS='--help'"
	@echo "make bounds   memory, idle cost, lateness, size of state, cost of metrics, against their bars"
	@echo "make format   format the code"
	@echo "make docs     write the generated parts of docs/"

$(VENV)/.ready: pyproject.toml constraints.txt $(wildcard edo_stream/core/_native*.pyx edo_stream/core/_native*.pxi)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@echo "Installing edo_stream and its tools into $(VENV); a minute the first time …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[local,dev]'
	@touch $@

demo: $(VENV)/.ready
	@$(BIN)/python -m load.demo

bench: $(VENV)/.ready
	@$(BIN)/python -m load.bench $(BENCH)

test: check broker

check: $(VENV)/.ready
	$(BIN)/ruff format --check -q .
	$(BIN)/ruff check -q .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry --no-ansi .
	$(BIN)/pytest -q --ignore=tests/broker --ignore=tests/local
	$(BIN)/pytest -q --python-only tests/core tests/engine tests/sources

broker: $(VENV)/.ready
	$(BIN)/pytest -q tests/local tests/broker

sim: $(VENV)/.ready
	$(BIN)/python -m tests.simulation --seeds $(N) --from $(SEED)

chaos: $(VENV)/.ready
	@$(BIN)/python -m load.chaos --seed $(SEED) --minutes $(MINUTES) --faults $(FAULTS) $(CHAOS)

airflow: $(VENV)/.ready
	EDO_AIRFLOW=build/airflow $(BIN)/pytest -q tests/airflow

mutants: $(VENV)/.ready
	@$(BIN)/python -m tests.mutants $(MUTANTS)

bounds: $(VENV)/.ready
	@$(BIN)/python -m load.bounds $(BOUNDS)

format: $(VENV)/.ready
	$(BIN)/ruff check -q --fix-only .
	$(BIN)/ruff format -q .

docs: $(VENV)/.ready
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) build data .mypy_cache .ruff_cache .pytest_cache .hypothesis
