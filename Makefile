# New users need only make demo and make test: each creates .venv if it is missing, and installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RECIPE := recipes/molecules.toml
DEMO_STAMP := $(VENV)/.installed-demo
STAMP := $(VENV)/.installed
# PyTorch's own index of builds without CUDA: nothing here needs a GPU, and CUDA's libraries are several GB.
# TORCH_INDEX= installs torch from pip's default index; on Linux that is the build with CUDA.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# Most installed modules are never imported; Python compiles the others on first import.
INSTALL := $(BIN)/python -m pip install --no-compile --constraint constraints.txt
ACTIVATE = echo "To use allmodes in your shell: source $(BIN)/activate   (or call $(BIN)/allmodes)"

.PHONY: demo test docs fuzz check bench clean

demo: $(DEMO_STAMP)
	$(BIN)/allmodes run $(RECIPE) $(FLAGS)
	@$(ACTIVATE)

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --durations 25 tests $(FLAGS)
	@$(ACTIVATE)

# The documentation as a site that opens from disk. Warnings are errors.
docs: $(STAMP)
	$(INSTALL) --quiet --editable '.[docs]'
	$(BIN)/sphinx-build -E -q -W --keep-going -b html -d build/doctrees docs build/site
	@echo "$(CURDIR)/build/site/index.html"

# Random damage to files and flags: CASES of each kind, with SEED.
fuzz: $(STAMP)
	ALLMODES_FUZZ_CASES=$(or $(CASES),1000) ALLMODES_FUZZ_SEED=$(or $(SEED),1) OMP_NUM_THREADS=1 \
		$(BIN)/python -m pytest -q tests/fuzz

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python benchmarks/objectives.py
	$(BIN)/python benchmarks/targets.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/sweep.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/evaluate.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/audit.py
	$(BIN)/python benchmarks/design_step.py
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/parsers.py
	$(BIN)/python benchmarks/diversity.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/retrosynthesis.py
	$(if $(RECEPTOR),OMP_NUM_THREADS=1 $(BIN)/python benchmarks/docking.py $(RECEPTOR)/receptor.pdbqt \
		$(RECEPTOR)/reference_ligand.pdb,@echo "docking: needs RECEPTOR=FOLDER, as allmodes chem receptor makes it")
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/trl_step.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/real_model_step.py
	$(BIN)/python benchmarks/startup.py

# What the demo needs: torch, RDKit, matplotlib. constraints.txt pins the releases for CI and new users.
$(DEMO_STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -z "$(TORCH_INDEX)" || $(INSTALL) --no-deps --retries 1 --index-url "$(TORCH_INDEX)" torch \
		|| echo "make: no torch for this machine from $(TORCH_INDEX); it comes from where pip takes packages by default"
	$(INSTALL) --editable '.[chem,report]'
	touch $@

# The extras that every command here needs.
$(STAMP): $(DEMO_STAMP)
	$(INSTALL) --editable '.[docking,postgresql,ray,report,retrosynthesis,tensorboard,text,yaml,dev]'
	touch $@

clean:
	rm -rf $(VENV)
