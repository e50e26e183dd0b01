# Everything sets itself up: `make demo` or `make test` is all a fresh machine needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-computing test-producing test-waiting check fresh lint format type parity fuzz chaos archive bench clean

UV_VERSION := 0.13.9
UV := $(or $(shell command -v uv),.tools/bin/uv)
RUN := .venv/bin
# Expanded when the recipe runs, after setup: our archive's recording, else the one in a package.
AUDIO = $(or $(shell ls ../shared/data/audio/english/jfk.flac 2>/dev/null),$(shell ls .venv/lib/python*/site-packages/moonshine_onnx/assets/beckett.wav))

help:  ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-8s %s\n", $$1, $$2}'

setup: .venv/.synced  ## Install everything into .venv, from the lock file

.venv/.synced: pyproject.toml uv.lock | $(filter .tools/bin/uv,$(UV))
	$(UV) sync --frozen --extra worker --extra embedded --extra demo --extra s3 --extra report --extra metrics --extra web --extra otel
	@touch $@

.tools/bin/uv:
	python3 deploy/installer/get_uv.py $(UV_VERSION) .tools/bin

# What a visitor needs and no more: half of the packages. With all installed there is nothing to do.
.venv/.demo: pyproject.toml uv.lock | $(filter .tools/bin/uv,$(UV))
	$(UV) sync --frozen --no-default-groups --group demo --extra worker --extra embedded --extra demo
	@touch $@

demo: $(if $(wildcard .venv/.synced),setup,.venv/.demo)  ## Transcribe real speech here and now: make demo [AUDIO=path]
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && env -u SCRIBEFARM_REDIS__URL SCRIBEFARM_REDIS__EMBEDDED_DIR="$$dir" $(RUN)/scribefarm transcribe "$(AUDIO)"

# Side by side: tests that compute, those of the light side, and those that mostly wait for workers.
COMPUTING := $(addprefix tests/,audio cli device engine models sources test_end_to_end.py test_generate.py)
PRODUCING := $(addprefix tests/,producer deploy test_imports.py test_readme.py test_readme_claims.py)

test: setup  ## The quick tests, a few minutes: a real server, the real model
	@$(MAKE) --no-print-directory -j3 $(if $(filter output-sync,$(.FEATURES)),-O) test-computing test-producing test-waiting

test-computing: setup
	@$(RUN)/pytest -q $(MARKED) $(COMPUTING)

test-producing: setup
	@$(RUN)/pytest -q $(MARKED) $(PRODUCING)

test-waiting: setup
	@$(RUN)/pytest -q $(MARKED) $(addprefix --ignore=,$(COMPUTING) $(PRODUCING))

fresh:  ## make demo and make test on a bare Debian, as a visitor meets them
	tests/fresh_machine/run

# Only the whole archive in MLX's network on a CPU takes longer: make parity BACKEND=mlx.
check: lint type  ## Everything: style, types, all tests, golden files, MLX's network, kills, nights
	@$(MAKE) --no-print-directory -j3 MARKED="-m 'not long and not (parity and mlx)' --durations=15" test-computing test-producing test-waiting

lint: setup  ## Check style and format
	$(RUN)/ruff check . && $(RUN)/ruff format --check .

format: setup  ## Mend style and format
	$(RUN)/ruff check --fix . ; $(RUN)/ruff format .

type: setup  ## Check types, strictly, for Linux and for macOS
	$(RUN)/mypy --platform linux && $(RUN)/mypy --platform darwin --cache-dir .mypy_cache/darwin

parity: setup $(if $(FOLDER),.tools/reference/.installed)  ## Compare with openai-whisper, token for token: make parity [FOLDER=yours MODEL=base] [BACKEND=mlx] [TESTS=path]
ifdef FOLDER
	.tools/reference/bin/python tests/data/make_goldens.py "$(FOLDER)" .tools/goldens.jsonl --model $(or $(MODEL),tiny.en)
	PARITY_FOLDER="$(FOLDER)" PARITY_GOLDENS=.tools/goldens.jsonl $(RUN)/pytest -q -s -m "$(if $(filter mlx,$(BACKEND)),,not )mlx" tests/models/whisper/own_goldens.py
else
	$(RUN)/pytest -q -s -m "parity and $(if $(filter mlx,$(BACKEND)),,not )mlx" $(TESTS)
endif

# openai-whisper and torch, some 2 GB with PyPI's torch for Linux; versions of tests/data/README.md.
.tools/reference/.installed:
	python3 -m venv .tools/reference
	.tools/reference/bin/pip install --quiet openai-whisper==20250625 torch==2.13.0 numpy==2.4.6
	@touch $@

fuzz: setup  ## Thousands of broken recordings for the audio pipeline, of hostile entries for the farm
	$(RUN)/python tests/fuzz/run.py
	$(RUN)/python -m tests.fuzz.hostile_farm

chaos: setup  ## Kill, freeze, cut off; bad shares, disks, clocks, models: count what was lost or wrong
	$(RUN)/python -m tests.chaos
	$(RUN)/python -m tests.chaos --surroundings
	test ! -d ../shared/data || $(RUN)/python -m tests.chaos --real ../shared/data/audio/english

archive: setup  ## A whole night: 2,000 recordings, 100 of them broken, everything killed in the middle
	ARCHIVE_NUM_FILES=2000 $(RUN)/pytest -q -m '' tests/test_archive_overnight.py
	NIGHT_NUM_LINES=200 $(RUN)/pytest -q -m '' tests/web/api/test_night_of_lines.py
	$(RUN)/pytest -q -m long tests/models/parakeet
	THREE_RUNS_REAL_PAUSE_S=600 $(RUN)/pytest -q -m '' tests/test_three_runs.py

bench: setup  ## Measure throughput and accuracy on this machine
	$(RUN)/python tests/benchmarks/run.py

clean:  ## Remove everything that setup and the tools made
	rm -rf .venv .tools dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
