# make demo: a 2-bit resolution-switchable network on real images in a few minutes. make test: all tests but the slow
# proofs (resuming bit by bit, parity of whole training steps), which make proofs runs. make fuzz: damaged files for every
# reader, for ten minutes. make bench: all benchmarks, half an hour on two idle cores; PEERS=python of an environment with
# PyTorch compares with that, too.
# Nothing is assumed but Python >= 3.10 with venv, and make. Choose another Python with PYTHON=python3.12.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready

# Without the bytecode that Python keeps, every program compiles 200 modules anew, for some seconds.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup native runtime demo study measure pages docs test proofs fuzz bench lint clean

setup: $(READY)

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; give PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet --editable '.[plots,export,dev]'
	-$(PY) -m quant.native.build
	touch $@

# Quantizers as C++ operations, after their sources have changed; setup makes them, too, where there is a compiler.
native: setup
	$(PY) -m quant.native.build

# The library that runs .lqn files, see runtime/README.md; nothing else needs it.
runtime: setup
	$(PY) -m engine.deployment.native_build

demo: setup
	$(PY) -m scripts.study demo

study: setup
	$(PY) -m scripts.study study

test: setup
	$(PY) -m pytest -n 2 --dist loadfile -m "not slow"

proofs: setup
	$(PY) -m pytest -n 2 -m slow

fuzz: runtime
	$(PY) -m tests.fuzz

bench: setup
	$(PY) -m scripts.bench all --out bench.json $(if $(PEERS),--python $(PEERS))

# What README.md and docs/*.md say, measured anew on the commit that is checked out: hours, and it goes on where it stopped.
measure: setup
	$(PY) -m scripts.measure

# Tables, figures and the picture of the pages, drawn from docs/measured and the presets.
pages: setup
	$(PY) -m scripts.pages

# The site, in build/docs; a warning or a broken link is an error.
docs: setup
	$(PY) -m pip install --quiet --editable '.[docs]'
	$(PY) -m sphinx -W --keep-going -q -j auto docs build/docs

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
