# A short front for CMake: `make help` lists what there is.
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60

.PHONY: all test asan tsan fuzz torture bench fmt install clean help
.DEFAULT_GOAL := all

all: ## build the libraries, the command and the tests in build/
	@cmake --preset release >/dev/null
	@cmake --build --preset release -j $(JOBS)

test: all ## run all tests
	@ctest --preset release -j $(JOBS)

asan: ## build with the address and undefined behaviour sanitizers in build-asan/, run all tests
	@cmake --preset asan >/dev/null
	@cmake --build --preset asan -j $(JOBS)
	@ctest --preset asan -j $(JOBS)

tsan: ## the same with the thread sanitizer in build-tsan/
	@cmake --preset tsan >/dev/null
	@cmake --build --preset tsan -j $(JOBS)
	@ctest --preset tsan -j $(JOBS)

fuzz: ## run every fuzz target for FUZZ_SECONDS (60); needs clang; new inputs stay in the corpus
	@cmake --preset fuzz >/dev/null
	@cmake --build --preset fuzz -j $(JOBS)
	@sh tools/fuzz.sh build-fuzz $(FUZZ_SECONDS)

torture: all ## fail every allocation of a tiny generation in turn
	@ctest --preset release -L torture --verbose

bench: all ## time kernels and pictures on this machine
	@sh tools/bench.sh build

fmt: ## format what git knows with clang-format
	@git ls-files '*.c' '*.h' '*.inc' '*.cu' '*.cuh' | xargs clang-format -i

install: all ## install under PREFIX (/usr/local)
	@cmake --install build --prefix $(PREFIX)

clean: ## remove the build folders
	@rm -rf build build-debug build-asan build-tsan build-fuzz

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10
