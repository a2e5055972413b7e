# spfresh: vector search for PostgreSQL
#
#   make PG_CONFIG=/usr/lib/postgresql/17/bin/pg_config
#   make install PG_CONFIG=...      into that server
#   make installcheck PG_CONFIG=... against that server, which must run
#   make check-numbers              the parts that need no server
#   make dist                       the release for PGXN, of what is committed
#
# ./runtests does all of it on throw-away servers, ./quickstart shows the thing.

EXTENSION = spfresh
EXTVERSION = 0.1.0
MODULE_big = spfresh
PGFILEDESC = "spfresh - vector search for PostgreSQL"

# Where this file is: a VPATH build runs elsewhere.
TOP := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))

# All numbers, no PostgreSQL: testable alone, and compiled for speed.  Whatever
# knows of the server includes compat.h, the rest does not.
NUMERIC = $(patsubst $(TOP)%,%,$(sort $(shell grep -L '"compat\.h"' $(TOP)src/*.c) $(wildcard $(TOP)src/kernels/*.c)))
SOURCES = $(patsubst $(TOP)%,%,$(sort $(wildcard $(TOP)spfresh_am.c $(TOP)src/*.c $(TOP)src/kernels/*.c)))
INCLUDED = $(wildcard $(TOP)src/*.h $(TOP)src/kernels/*.h)

OBJS = $(SOURCES:.c=.o)
NUMERIC_OBJS = $(NUMERIC:.c=.o)

DATA = $(patsubst $(TOP)%,%,$(wildcard $(TOP)spfresh--*.sql))

# Tests: sql/ and specs/ with expected/ (of both), t/*.pl
REGRESS = $(patsubst $(TOP)sql/%.sql,%,$(sort $(wildcard $(TOP)sql/*.sql)))
REGRESS_OPTS = --load-extension=vector --load-extension=spfresh
ISOLATION = $(patsubst $(TOP)specs/%.spec,%,$(sort $(wildcard $(TOP)specs/*.spec)))
ISOLATION_OPTS = --load-extension=vector --load-extension=spfresh
TAP_TESTS = 1

# PostgreSQL's own headers do not pass -Wextra without these three.
WARNINGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers
# The tests build with WERROR=1; a newer compiler's new warning is nobody else's problem.
ifeq ($(WERROR),1)
WARNINGS += -Werror
endif
SPEED = -O3 -fno-math-errno

PG_CPPFLAGS = -I$(TOP)src
PG_CFLAGS = -std=gnu11 $(WARNINGS) -Wno-declaration-after-statement
SHLIB_LINK = -lm

# liburing, where its headers are: spfresh.io = io_uring.  LIBURING=no does without.
LIBURING ?= $(if $(shell pkg-config --exists liburing 2>/dev/null && echo yes),yes,no)
ifeq ($(LIBURING),yes)
PG_CPPFLAGS += -DSPF_LIBURING $(shell pkg-config --cflags liburing)
SHLIB_LINK += $(shell pkg-config --libs liburing)
else
$(info spfresh is built without liburing, and so without spfresh.io = io_uring; liburing-dev and pkg-config bring it)
endif

# Bitcode for the JIT compiler would need clang, and nothing here is worth inlining into a query.
override with_llvm = no

EXTRA_CLEAN = check-numbers.dir

# What follows needs no server, nor its pg_config.
ALONE = check-numbers dist
ifneq ($(if $(MAKECMDGOALS),$(filter-out $(ALONE),$(MAKECMDGOALS)),all),)
PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
ifeq ($(PGXS),)
$(error $(PG_CONFIG) does not work; install postgresql-server-dev-NN and pass PG_CONFIG=/usr/lib/postgresql/NN/bin/pg_config)
endif
include $(PGXS)

# Few sources, few headers: everything depends on every header.
$(OBJS): $(INCLUDED) $(TOP)Makefile | objdirs
$(NUMERIC_OBJS): override CFLAGS += $(SPEED)

# Regress and isolation tests say themselves what is done when, and no worker's snapshot keeps rows
# from being vacuumed (TAP tests do not see this).
installcheck: export PGOPTIONS += -c spfresh.rebalance=vacuum

.PHONY: objdirs
objdirs:
	@mkdir -p $(sort $(dir $(OBJS)))
endif

# ---- the C tests: each t/NAME_test.c with all the numeric sources
#      SANITIZE=1: with AddressSanitizer and UndefinedBehaviorSanitizer
#      RUN=...: what runs them, an emulator when CC is a cross compiler

NUMBERS_TESTS = $(patsubst $(TOP)t/%.c,%,$(sort $(wildcard $(TOP)t/*_test.c)))
NUMBERS_CFLAGS = -std=gnu11 -g $(WARNINGS) $(SPEED)
ifeq ($(SANITIZE),1)
NUMBERS_DIR = check-numbers.dir/sanitized
NUMBERS_CFLAGS += -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
else
NUMBERS_DIR = check-numbers.dir/plain
endif
NUMBERS_OBJS = $(NUMERIC:%.c=$(NUMBERS_DIR)/%.o)
NUMBERS_PROGRAMS = $(addprefix $(NUMBERS_DIR)/t/,$(NUMBERS_TESTS))

$(NUMBERS_DIR)/%.o: $(TOP)%.c $(INCLUDED) $(wildcard $(TOP)t/*.h) $(TOP)Makefile
	@mkdir -p $(dir $@)
	$(CC) $(NUMBERS_CFLAGS) -I$(TOP)src -c -o $@ $<

$(NUMBERS_PROGRAMS): %: %.o $(NUMBERS_OBJS)
	$(CC) $(NUMBERS_CFLAGS) -pthread -o $@ $^ -lm

.PHONY: check-numbers
.SECONDARY: $(NUMBERS_OBJS) $(addsuffix .o,$(NUMBERS_PROGRAMS))
check-numbers: $(NUMBERS_PROGRAMS)
	@failed=; for t in $^; do \
		echo "# running $$t"; \
		$(RUN) "$$t" || { echo "# $$t failed: exit status $$?"; failed=1; }; \
	done; test -z "$$failed"

# ---- the release

.PHONY: dist
dist:
	git -C $(TOP) archive --format=zip --prefix=spfresh-$(EXTVERSION)/ -o $(CURDIR)/spfresh-$(EXTVERSION).zip HEAD
	@echo "made spfresh-$(EXTVERSION).zip"
