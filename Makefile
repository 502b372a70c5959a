# Two commands for everyone: `make demo` and `make test`. Everything else is for developers.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LABEL_VENV ?= .venv-label
LABEL_BIN := $(LABEL_VENV)/bin
# One thread each: two OpenMP threads on busy cores can be twenty times slower. A lone long training may ask for more.
export OMP_NUM_THREADS ?= 1
export MLFLOW_DISABLE_TELEMETRY = true
# A shell that forbids byte code compiles MONAI anew at each start, ten seconds long: here it is kept.
export PYTHONDONTWRITEBYTECODE =
# MONAI warns at each start that configurations execute code: this one is the project's own.
RUN := $(BIN)/python -W ignore::UserWarning:monai.bundle.scripts -m monai.bundle run

.PHONY: demo test test-ci test-label test-web web coverage lint venv dev label-env format lock docs pictures dist clean

demo: venv
	test -f data/phantom/datalist.json || $(BIN)/cvm-monai phantom data/phantom
	$(RUN) training --config_file bundle/configs/train.yaml
	$(RUN) evaluating --config_file "['bundle/configs/train.yaml','bundle/configs/evaluate.yaml']"
	@echo
	@echo "Trained and evaluated on the phantom in data/phantom. What is where:"
	@echo "  bundle/models/model.pt              the network"
	@echo "  bundle/eval/evaluation/summary.md   the scores on held-out patients"
	@echo "  bundle/eval/evaluation/cases.png    images, points, truth, pseudo-label and prediction"
	@echo "  bundle/eval/figures/training.png    the training's curves"
	@echo "  $(BIN)/mlflow ui --backend-store-uri sqlite:///bundle/eval/mlruns.db   everything, in a browser"

test: dev
	$(BIN)/python -m pytest

# Triton comes with CUDA builds of torch; elsewhere it is taken for its interpreter, which runs the GPU kernels here.
test-ci: dev web $(VENV)/.installed-docs test-label
	$(BIN)/python tools/page.py test
	$(BIN)/python -c "import triton" 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps "triton>=3.4,<4"
	$(BIN)/python -m pytest -m ci

# The MONAI Label app with MONAI Label itself: its own environment, the same package.
test-label: label-env
	$(LABEL_BIN)/python -m pytest -m "not slow" tests/label_app

# The page of `cvm-monai annotate`, built into cvm_monai/annotate/page: a wheel that is built afterwards carries it.
web: venv
	$(BIN)/python tools/page.py build

# Its units, then all of it in headless Chromium (skipped, with the reason, where there is none).
test-web: dev web
	$(BIN)/python tools/page.py test
	$(BIN)/python -m pytest -m ci -rs tests/annotate/test_page.py

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site, in build/site: warnings are errors, nothing is taken from the net; the tutorial runs once and is kept in build/.
docs: venv $(VENV)/.installed-docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -d build/doctrees -b html docs build/site
	@echo "build/site/index.html"

# The pictures of the documents, from the phantom and a training of some minutes on it, kept in build/pictures.
pictures: venv
	$(BIN)/python tools/pictures.py build/pictures --output docs/images

# What the tests run of the package: below the floor in pyproject.toml it fails. Not a part of `make test`.
coverage: dev
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered --cov-report=xml:build/coverage.xml

# Source distribution and wheel, in dist/.
dist: dev web
	rm -rf dist build/lib build/bdist.*
	$(BIN)/python -m build --no-isolation

# A torch already in the environment and within range is kept; TORCH_INDEX_URL chooses where else to take it from.
venv: $(VENV)/.installed
dev: $(VENV)/.installed-dev

$(VENV)/.installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python tools/install_torch.py
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -r requirements-dev.lock
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed requirements-docs.lock
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -r requirements-docs.lock
	touch $@

# MONAI Label 0.8.5 asks for numpy 1, jsonschema 3 and pydicom 2, and for packages that this app never imports (sam2, CUDA
# torchvision, numpymaxflow): it is installed without its dependencies, beside our own torch and numpy.
label-env: $(LABEL_VENV)/.installed

$(LABEL_VENV)/.installed: requirements.lock requirements-label.lock pyproject.toml
	test -x $(LABEL_BIN)/python || $(PYTHON) -m venv $(LABEL_VENV)
	$(LABEL_BIN)/python tools/install_torch.py
	$(LABEL_BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -r requirements.lock -r requirements-label.lock
	$(LABEL_BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --no-deps monailabel==0.8.5 pydicom-seg==0.4.1
	$(LABEL_BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# Renews the locks; torch and what only it needs stay out, so that the lists serve CPU and CUDA builds alike.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-package torch --no-header --no-annotate
CUDA = ^(nvidia-|cuda-|triton)
lock: dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(LOCK) --upgrade pyproject.toml | grep -v -E '$(CUDA)' | sed '1i # The tested versions of everything but torch, which tools/install_torch.py takes. Renew by `make lock`.' > requirements.lock
	$(LOCK) --constraint requirements.lock --extra dev --extra export pyproject.toml | grep -v -E '$(CUDA)' | sed '1i # The tested versions for development and export, beside requirements.lock. Renew by `make lock`.' > requirements-dev.lock
	$(LOCK) --constraint requirements.lock --constraint requirements-dev.lock --extra docs pyproject.toml | grep -v -E '$(CUDA)' | sed '1i # The tested versions for the site (`make docs`), beside requirements.lock. Renew by `make lock`.' > requirements-docs.lock

clean:
	rm -rf $(VENV) build data/phantom bundle/eval bundle/models/model.pt
