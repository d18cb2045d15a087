# make run [DEMO=0]   generate the phantom corpus, fine-tune, evaluate, write the card, open the demo
# make test           run the tests           make lint           ruff and mypy           make bench          benchmarks
# make test-isa       run the tests of what computes under the instruction sets of older processors, one thread and two
# make test-options   train with every option that is offered, end to end
# make test-lowest    the reader's, the model's and the predictor's tests on the lowest versions that pyproject.toml allows
# make docs           the guides and the reference as a site, in build/docs
# make sbom           sbom.json: what is installed, as CycloneDX
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN ?= runs/phantom
DEMO ?= 1
PORT ?= 7860

.PHONY: run test test-isa test-options test-lowest docs sbom lint bench clean
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

# What a network, a library of linear algebra and NumPy compute with, as an older processor would have them choose.
SSE := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 DNNL_MAX_CPU_ISA=SSE41 OPENBLAS_CORETYPE=Nehalem \
	NPY_DISABLE_CPU_FEATURES='X86_V3 X86_V4 AVX512_ICL AVX512_SPR'
AVX2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 DNNL_MAX_CPU_ISA=AVX2 OPENBLAS_CORETYPE=Haswell
ISA_TESTS ?= tests/model tests/formats tests/explain tests/statistics tests/serving tests/audit tests/training/test_loop.py \
	tests/training/test_losses.py tests/training/test_state.py tests/evaluation

test-isa: $(VENV)/.installed
	@set -e; for threads in 1 2; do for isa in "$(SSE)" "$(AVX2)" ""; do \
		echo "instruction set: $${isa:-this processor's own}; threads: $$threads"; \
		eval "env OMP_NUM_THREADS=$$threads $$isa" $(BIN)/python -m pytest -q $(ISA_TESTS); \
	done; done

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/mypy

# Every option that training offers, end to end: an hour on two cores.
test-options: $(VENV)/.installed
	OMP_NUM_THREADS=1 CT_XCEPTION_TEST_OPTIONS=1 $(BIN)/python -m pytest --numprocesses 2 tests/pipeline/test_options.py

# An environment of its own; uv finds the lowest versions that go together. Some gigabytes, as torch brings CUDA.
LOWEST := build/lowest
LOWEST_TESTS ?= tests/imaging tests/model tests/serving

$(LOWEST)/.installed: pyproject.toml
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[test]'
	touch $@

test-lowest: $(LOWEST)/.installed
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest --numprocesses 2 --dist loadfile $(LOWEST_TESTS)

# The guides of docs/ and the reference, from the docstrings, into build/docs; a warning is an error.
docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo 'build/docs/index.html'

sbom: $(VENV)/.installed
	$(PYTHON) -m venv build/sbom
	build/sbom/bin/python -m pip install --quiet --disable-pip-version-check 'cyclonedx-bom>=7'
	build/sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file sbom.json $(BIN)/python

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) runs build sbom.json *.egg-info
