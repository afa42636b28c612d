# Milepost. `make` says what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ACCEL ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
export ORT_DISABLE_TELEMETRY = 1
# Public data sets are no part of Milepost; where they lie beside it, they are found.
DATA ?= $(or $(MILEPOST_DATA),$(wildcard ../shared/data))
SMALLEST := smollm2-135m
# Asked once more with calls alone, which so small a model seldom makes by itself.
CALLING := dialogues $(if $(DATA),bfcl hammerbench seal-tools toolalpaca nestful)
SMOKE := --model $(SMALLEST) $(if $(DATA),--data $(DATA)) --fresh --out .bench/eval-smoke

# What torch needs on GPUs only and loads on first use; its other libraries of CUDA it loads in any case.
UNUSED_BY_EXPORT := triton cuda-toolkit cuda-bindings cuda-pathfinder nvidia-cusolver nvidia-cuda-cccl nvidia-nvtx

.PHONY: help install demo up down test test-oracle export-env train-env test-training drill-kill drill-effects drill-tamper lint format types check fuzz-door bench-steps bench-llm bench-tools bench-door bench-replay bench-retrieval bench-training eval-llm eval-smoke vendor lock clean

help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(VENV)/installed ## a virtual environment with everything, from the hashed lock

$(VENV)/installed: infra/locks/$(ACCEL).txt infra/locks/alone.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Milepost needs Python 3.11 or newer; $$($(PYTHON) --version) is here. Next: make install PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing ($(ACCEL)); the first time takes a minute or two"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r infra/locks/$(ACCEL).txt -r infra/locks/alone.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: install ## the whole of it: four requests, an approval, a timeline, a replay (ARGS=--yes answers for you)
	@$(BIN)/milepost demo $(ARGS)

up: install ## start the stack here and stay
	@$(BIN)/milepost up

down: install ## stop it
	@$(BIN)/milepost down

test: install ## every test on real servers, except the slow drills
	@$(BIN)/python -m pytest -q -n 2 tests/unit tests/contract
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile --ignore tests/live/test_catalogue.py tests/live tests/story
	@$(BIN)/python -m pytest -q tests/live/test_catalogue.py # two processes in it share work by time, so nothing runs beside it

export-env: install ## the environment that `milepost models export --with optimum` runs in (2 GB to fetch)
	@$(BIN)/python -m infra.models.export

test-oracle: export-env ## our graphs beside those that optimum exports
	@$(BIN)/python -m pytest -q --timeout=1800 tests/oracle

train-env: install ## the environment that `milepost train` runs in, where no other Python with torch is named (2 GB to fetch)
	@$(BIN)/python -m infra.training.environment

test-training: install ## training, end to end, and our merges beside peft's (needs train-env, or MILEPOST_TRAINING_PYTHON)
	@$(BIN)/python -m pytest -q --timeout=1800 tests/training

drill-kill: install ## kill -9 of every process at 50 random moments; nothing lost, nothing twice
	@$(BIN)/python -m tests.drill.kill --kills 50 $(ARGS)

drill-effects: install ## kill -9 of tools, conductor, policy, broker and database 1,000 times amid approved writes
	@$(BIN)/python -m tests.drill.effects --kills 1000 $(ARGS)

drill-tamper: install ## exported runs tampered with 10,000 times, and 1,000 left alone
	@$(BIN)/python -m tests.drill.tamper --count 10000 --untouched 1000 $(ARGS)

bench-steps: install ## a durable step beside LangGraph, DBOS and Restate
	@$(BIN)/python -m tests.bench.steps.run $(ARGS)

bench-llm: install ## the llm engine beside onnxruntime-genai, llama.cpp and transformers
	@$(BIN)/python -m tests.bench.llm.run $(ARGS)

bench-tools: install ## what a tool call adds, read and written, beside DBOS and plain MCP
	@$(BIN)/python -m tests.bench.tools.run $(ARGS)

bench-replay: install ## replay, receipts, verification, rebuilding and cohorts: how fast
	@$(BIN)/python -m tests.bench.replay.run $(ARGS)

bench-door: install ## what the HTTP door adds to the bus, how many streams it holds, how quick its pages are
	@$(BIN)/python -m tests.bench.door.run $(ARGS)

bench-retrieval: install ## how fast tools are found, and how often the right ones (ARGS="--only speed,memory")
	@$(BIN)/python -m tests.bench.retrieval.run $(ARGS)

bench-training: install ## tokens/s and memory of the trainer beside plain transformers Trainer (needs the training environment)
	@$(BIN)/python -m tests.bench.training.run $(ARGS)

eval-llm: install ## how often a model calls rightly and answers rightly (ARGS="bfcl --model default --limit 50")
	@$(BIN)/milepost eval run $(or $(ARGS),dialogues) $(if $(DATA),--data $(DATA))

eval-smoke: install ## a few items of every benchmark whose data are in DATA, with the smallest model, all figures
	@test -n "$(DATA)$(if $(CI),,none)" || { echo "There are no data sets to ask. Next: make eval-smoke DATA=FOLDER"; exit 1; }
	@$(BIN)/milepost models pull $(SMALLEST) && $(BIN)/milepost models build $(SMALLEST)
	@$(BIN)/milepost eval run all $(SMOKE) --limit 3 --longest 32
	@$(BIN)/milepost eval run $(CALLING) $(SMOKE) --limit 3 --longest 96 --always --as calling
	@$(BIN)/milepost eval compare $(SMALLEST) calling --benchmark dialogues --out .bench/eval-smoke --html .bench/eval-smoke/compare.html

vendor: ## make the console's vendored modules anew (needs Node.js; nobody who runs Milepost does)
	@services/gateway/console/vendor/build.sh

fuzz-door: install ## requests made from /openapi.json, to a stack that is up: ARGS="-n 200 --phases coverage,fuzzing"
	@$(BIN)/schemathesis run "$$($(BIN)/milepost door url)/openapi.json" -H "Authorization: Bearer $$($(BIN)/milepost door key)" \
	  --checks not_a_server_error --continue-on-failure --exclude-path-regex '/api/live|/follow$$' $(ARGS)

lint: install ## ruff and the import contracts
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

format: install ## ruff format
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

types: install ## mypy --strict
	@$(BIN)/mypy

check: lint types test ## all three

lock: ## renew the hashed locks (needs uv)
	@for accel in cpu gpu; do uv pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra $$accel --extra local --extra aliyun --extra aws --extra mcp --extra langchain --extra sandbox --extra speech --extra parquet --extra otel --extra openai --extra dev infra/locks/build.in -o infra/locks/$$accel.txt; done
	@uv pip compile -q --group pyproject.toml:export --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url $(addprefix --no-emit-package ,$(UNUSED_BY_EXPORT)) -o infra/locks/export.txt
	@uv pip compile -q --group pyproject.toml:train --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url $(addprefix --no-emit-package ,$(UNUSED_BY_EXPORT)) -o infra/locks/train.txt

clean: ## remove what was made, except models
	@rm -rf $(VENV) .bench .milepost build dist *.egg-info
