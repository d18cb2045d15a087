# make run [DEMO=0]   generate the phantom corpus, fine-tune, evaluate, write the card, open the demo
# make test           run the tests           make test-options   train with every option
# make lint           ruff and mypy           make bench          benchmarks
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN ?= runs/phantom
DEMO ?= 1
PORT ?= 7860

.PHONY: run test test-options lint bench clean
.DELETE_ON_ERROR:

# The stamp is newer than pyproject.toml once everything that it asks for is installed.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

run: $(VENV)/.installed
	HF_HUB_OFFLINE=1 $(BIN)/accelerate launch --quiet train_hf.py --config recipes/phantom.yaml --output_dir $(RUN) --resume auto
	@if [ "$(DEMO)" != 0 ]; then $(BIN)/ct-xception demo $(RUN)/model --port $(PORT); fi

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/mypy

# Every option that training offers, end to end: an hour on two cores.
test-options: $(VENV)/.installed
	OMP_NUM_THREADS=1 CT_XCEPTION_TEST_OPTIONS=1 $(BIN)/python -m pytest --numprocesses 2 tests/pipeline/test_options.py

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) runs build *.egg-info
