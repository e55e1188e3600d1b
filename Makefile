# make demo and make test are all a newcomer needs: each makes .venv when it is missing.
VENV := .venv
BIN := $(VENV)/bin
RECIPE := recipes/molecules.toml
STAMP := $(VENV)/.installed
ACTIVATE = echo "To use allmodes in your shell: source $(BIN)/activate   (or call $(BIN)/allmodes)"

.PHONY: demo test docs fuzz check bench clean

demo: $(STAMP)
	$(BIN)/allmodes run $(RECIPE) $(FLAGS)
	@$(ACTIVATE)

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --durations 25 tests
	@$(ACTIVATE)

# The documentation as a site that opens from the disk. A page that cannot be read as it is meant is an error.
docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
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

# The extras that every command here needs; constraints.txt pins what CI and newcomers get.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[chem,postgresql,ray,report,tensorboard,text,yaml,dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV)
