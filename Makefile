# Every target does its own set-up in $(VENV), once; change PYTHON or VENV on the command line:
#   make demo PYTHON=python3.12
# On a machine without an NVIDIA GPU the CPU build of torch saves some gigabytes:
#   make demo PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_FLAGS ?=
PYTEST_FLAGS ?= -n 2

DATA ?= data/pick_can
EPISODES ?= 2500
# compiled blocks need a C++ compiler; without one: make train TRAIN_FLAGS=
TRAIN_FLAGS ?= compile=true
POLICY ?= pick_can_tiny

.PHONY: demo test train eval lint clean

demo: $(VENV)/.installed  ## act with the shipped checkpoint in MuJoCo, imagine, write a report
	$(BIN)/worldmodel demo

test: $(VENV)/.installed-dev  ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_FLAGS)

train: $(VENV)/.installed  ## collect demonstrations, train, then rehearse: the shipped checkpoint
	$(BIN)/worldmodel collect env=pick_can episodes=$(EPISODES) explore=0.6 mistaken=0.667 out=$(DATA)
	$(BIN)/worldmodel train data=$(DATA) holdout=100 model=tiny objective=self_flow $(TRAIN_FLAGS) \
	  rehearse=0 out=runs/train/first resume=true
	$(BIN)/worldmodel train data=$(DATA) holdout=100 init=runs/train/first $(TRAIN_FLAGS) \
	  objective=self_flow rehearse_after=0 rehearse=0.6 rehearse_steps=30 demonstrations=0.45 \
	  objective.next_ratio=1 objective.plans=1 steps=10000 optim.lr=6e-4 out=runs/train/second resume=true

eval: $(VENV)/.installed  ## the shipped checkpoint on 500 episodes that it has never seen
	$(BIN)/worldmodel eval policy=$(POLICY) env=pick_can episodes=500

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

clean:  ## remove the environment and every cache; data/ and runs/ stay
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "worldmodel needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Install one and name it, for example: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "Could not make a virtual environment. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }

# Stamps: an install is repeated only when what it installs from has changed.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.installed
