# make demo, make test: each sets up .venv by itself on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# OpenMP threads that wait by spinning take the core from the workers that prepare data (docs/experiments.md).
export OMP_WAIT_POLICY ?= passive
# bf16 where there is a GPU, or a CPU with the instructions for it: without them it takes many times as long as fp32.
BF16 := test -e /dev/nvidia0 || grep -qwE 'avx512_bf16|amx_bf16|bf16' /proc/cpuinfo 2>/dev/null
PRECISION := $(shell if $(BF16); then echo bf16; else echo no; fi)
LAUNCH := $(BIN)/accelerate launch --num_processes 1 --num_machines 1 --dynamo_backend no --mixed_precision $(PRECISION)
DEMO := runs/demo

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-lowest bench quality style clean clean-cache

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-14s%s\n", $$1, $$2}'

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile torch torchvision
	$(BIN)/pip install --quiet --no-compile --editable '.[dev]'
	@# what pip would compile on one core; a few templates of other packages are no Python and fail
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

toycity/.complete: | $(VENV)/installed
	$(BIN)/python -m data_scripts.toycity toycity --train 24 --val 8 --test 8 --size 512 1024 --seed 0 --overwrite
	@touch $@

demo: $(VENV)/installed toycity/.complete  ## draw a small city, train on it, predict it (10 minutes on 2 cores)
	$(LAUNCH) train_seg.py recipes/toycity_demo.yaml --output_dir $(DEMO) --overwrite_output_dir
	$(LAUNCH) predict_seg.py --model_name_or_path $(DEMO) --mst
	@echo
	@echo "Look at:"
	@echo "  toycity/leftImg8bit/           the city"
	@echo "  $(DEMO)/images/            input, truth and prediction during training"
	@echo "  $(DEMO)/learning_curve.png"
	@echo "  $(DEMO)/results_color_test/ predictions of images without labels"

test: $(VENV)/installed quality  ## lint and tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: $(VENV)/installed  ## the tests that take long, such as runs that are killed at random moments
	$(BIN)/python -m pytest -m slow -s

LOWEST := .venv-lowest

test-lowest:  ## the tests in an environment with the lowest versions that setup.cfg allows (.venv-lowest)
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install --quiet --requirement tests/lowest.txt
	$(LOWEST)/bin/pip install --quiet --constraint tests/lowest.txt --editable '.[dev]'
	$(LOWEST)/bin/python -m pytest -n 2 --dist worksteal

CAMVID ?= camvid

bench: $(VENV)/installed  ## the tables of docs/benchmarks.md (on an otherwise idle machine; CAMVID=folder)
	$(BIN)/pip install --quiet --editable '.[bench]'
	$(BIN)/python benchmarks/data.py loader
	$(BIN)/python benchmarks/data.py mixing
	$(BIN)/python benchmarks/metric.py
	$(BIN)/python benchmarks/official_scores.py --repeats 15
	$(BIN)/python benchmarks/train_step.py deeplab
	$(BIN)/python benchmarks/train_step.py norms
	$(BIN)/python benchmarks/train_step.py peers --repeats 15
	$(BIN)/python benchmarks/train_step.py heads --repeats 7
	$(BIN)/python benchmarks/train_step.py compiled --repeats 9
	$(BIN)/python benchmarks/train_step.py feed --dataset camvid --dataset_path $(CAMVID) --repeats 40
	$(BIN)/python benchmarks/train_step.py feed --dataset camvid --dataset_path $(CAMVID) --repeats 40 --default_malloc

quality: $(VENV)/installed  ## lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

style: $(VENV)/installed  ## format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean-cache: $(VENV)/installed  ## delete decoded images and other things that are computed again when needed
	$(BIN)/python -m data_scripts.cache --clear

clean:  ## delete the environment, the toy city and the demo's run
	rm -rf $(VENV) $(LOWEST) toycity $(DEMO)
