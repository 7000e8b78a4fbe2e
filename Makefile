# SPDX-License-Identifier: MIT
# respool: the C library, the Lua modules, their specs and benchmarks.
# `make help` lists the targets.

CC ?= cc
CFLAGS ?= -O2 -g
PREFIX ?= /usr/local
LUA ?= lua5.4
BUILD ?= build

CORE = base/error base/clock base/random record/backoff base/cbor base/arena \
  record/item record/segment base/histogram record/failures record/page \
  record/dead_notices base/thread commit/commit commit/ticket base/timer \
  verbs/lease verbs/buffer_fill verbs/buffer verbs/store verbs/buffer_list \
  verbs/queue verbs/push verbs/take verbs/batch verbs/settle \
  verbs/transaction verbs/dead_letters verbs/maintenance lmdb/env/directory \
  lmdb/env/create lmdb/env/env lmdb/repair/compact lmdb/env/open \
  lmdb/env/txn lmdb/record/key_codec lmdb/record/records lmdb/record/meta \
  lmdb/record/names lmdb/record/segments lmdb/record/blobs \
  lmdb/record/item_reader lmdb/dead/dead_letters lmdb/dead/groups \
  lmdb/dead/named_replay lmdb/queue/state lmdb/queue/unit \
  lmdb/queue/unique_key lmdb/queue/claims lmdb/queue/find lmdb/queue/room \
  lmdb/queue/end_items lmdb/queue/expiry lmdb/queue/purge \
  lmdb/queue/history lmdb/queue/append lmdb/queue/order lmdb/queue/weights \
  lmdb/queue/deliver lmdb/queue/take lmdb/queue/settle lmdb/queue/browse \
  lmdb/queue/replay lmdb/queue/policy lmdb/maintain lmdb/engine lmdb/repair/check lmdb/env/nodes \
  lmdb/env/pages lmdb/repair/record_kind base/id_set lmdb/repair/salvage \
  lmdb/repair/conflicts lmdb/repair/rebuild_blobs lmdb/repair/rebuild_dead \
  lmdb/repair/rebuild_queues lmdb/repair/repair
BINDING = core result handle ticket record stats names backoff cbor store \
  queue buffer buffer_list take batch dead replay maintenance \
  transaction process file terminal input repair
LUA_FILES = respool/init.lua respool/store.lua respool/queue.lua \
  respool/policy.lua respool/support/backoff.lua respool/support/codec.lua \
  respool/produce/push.lua respool/produce/upgrade.lua \
  respool/produce/merge.lua respool/produce/buffer.lua \
  respool/consume/take.lua respool/consume/batch.lua \
  respool/consume/item.lua respool/consume/item_pushes.lua \
  respool/consume/handler_memo.lua respool/consume/decide.lua \
  respool/support/outcome.lua respool/support/pages.lua \
  respool/consume/work.lua respool/dead.lua respool/replay/replay.lua \
  respool/replay/replay_page.lua respool/transaction.lua \
  respool/consume/handlers.lua respool/replay/background.lua \
  respool/worker_script.lua respool/worker_processes.lua \
  respool/observe/hooks.lua respool/observe/stats.lua \
  respool/observe/metrics.lua respool/observe/health.lua respool/history.lua \
  respool/maintenance.lua respool/repair.lua respool/observe/closing.lua \
  respool/support/options.lua respool/support/compat.lua \
  respool/support/lossless_json.lua respool/transfer/format.lua \
  respool/transfer/files.lua respool/transfer/file_writer.lua \
  respool/transfer/file_reader.lua respool/transfer/import_log.lua \
  respool/transfer/source.lua respool/transfer/export.lua \
  respool/transfer/import.lua respool/transfer/record.lua \
  respool/cli/export.lua respool/cli/import.lua respool/support/json.lua \
  respool/cli/main.lua respool/cli/arguments.lua respool/cli/output.lua \
  respool/cli/progress.lua respool/cli/streams.lua respool/cli/push.lua \
  respool/cli/records.lua respool/cli/notes.lua respool/cli/work.lua \
  respool/cli/replay.lua respool/cli/replay_jobs.lua respool/cli/where.lua \
  respool/cli/show.lua respool/cli/each.lua respool/cli/ls.lua \
  respool/cli/peek.lua respool/cli/get.lua respool/cli/stats.lua \
  respool/cli/health.lua respool/cli/metrics.lua respool/cli/dead.lua \
  respool/cli/remove.lua respool/cli/pause.lua respool/cli/resume.lua \
  respool/cli/maintain.lua respool/cli/child.lua respool/cli/check.lua \
  respool/cli/findings.lua respool/cli/compact.lua respool/cli/sampler.lua \
  respool/cli/dashboard.lua respool/cli/top.lua respool/http/handler.lua \
  respool/http/options.lua respool/http/body.lua respool/http/url.lua \
  respool/http/retry_after.lua respool/http/sign.lua \
  respool/http/message.lua respool/http/client.lua respool/http/sockets.lua \
  respool/http/cosockets.lua respool/http/tls.lua respool/http/loop.lua \
  respool/http/deliver.lua respool/http/limit.lua respool/http/server.lua \
  respool/http/receive.lua respool/cli/deliver.lua respool/cli/receive.lua \
  respool/cli/secret.lua respool/cli/repair.lua resty/respool.lua \
  resty/respool/waiting.lua resty/respool/worker.lua resty/respool/round.lua \
  resty/respool/threads.lua resty/respool/reply.lua resty/respool/http.lua \
  resty/respool/admin.lua
EXAMPLES = lifecycle
SPEC_C = leaves cbor dump damage threads tickets buffers wait fork writer \
  opener reader brim
FAULT_C = recorder.so workload replay kill
FAULT_SRC = recorder workload replay kill actors verbs model disk pages \
  points faults ledger scenario failing
FAULTS = power kills calls worlds
BENCH_C = machine lifecycle one_record append_log sqlite push depth \
  churn letters letters_record

# What runs under every Lua, what under 5.3 and 5.1, what under ASan.
SPECS = spec
SHORT_SPECS = spec/consume/backoff_spec.lua spec/core/cbor_spec.lua \
  spec/core/module_spec.lua
ASAN_SPECS = spec/core/leaves_spec.lua spec/core/lifecycle_spec.lua \
  spec/core/buffers_spec.lua spec/core/cbor_core_spec.lua \
  spec/consume/backoff_spec.lua spec/core/cbor_spec.lua \
  spec/core/module_spec.lua spec/core/threads_spec.lua \
  spec/lmdb/format_spec.lua spec/lmdb/format_state_spec.lua \
  spec/lmdb/damage_spec.lua spec/store/path_spec.lua \
  spec/lmdb/any_byte_spec.lua spec/produce/buffer_spec.lua \
  spec/produce/keys_spec.lua spec/produce/bounds_spec.lua \
  spec/consume/transaction_spec.lua spec/dead/history_spec.lua \
  spec/observe/hooks_spec.lua spec/store/read_only_spec.lua \
  spec/lmdb/compact_spec.lua

WARN = -Wall -Wextra -Wconversion -Wshadow
C = -std=c11 -D_GNU_SOURCE -Iinclude -iquote core $(WARN) $(CPPFLAGS)
COMPILE = $(CC) $(C) -pthread -fPIC -fno-plt -fvisibility=hidden -MMD -MP \
  $(CFLAGS)
LINK = $(CC) -pthread $(CFLAGS) $(LDFLAGS)
SHARED = $(LINK) -shared -Wl,-z,nodelete
LIBS = -llmdb -lcbor -lxxhash -lm

CORE_O = $(CORE:%=$(BUILD)/core/%.o)
LIBRARY = $(BUILD)/librespool.a $(BUILD)/librespool.so
MODULES = $(LUAS:%=$(BUILD)/%/respool/core.so)
PROGRAMS = $(EXAMPLES:%=$(BUILD)/%) $(SPEC_C:%=$(BUILD)/spec/%)
FAILING = $(BUILD)/fault/failing $(BUILD)/fault/failing_lua
FUZZ = cbor segment records store
FUZZ_SECONDS ?= 60
ATTACKS = $(FAULT_C:%=$(BUILD)/spec/fault/%)
VERSION = $(shell sed -n 's/.* RESPOOL_VERSION_STRING "\(.*\)"/\1/p' \
            include/respool.h)

.DEFAULT_GOAL = all

# build/deps.mk says which Luas there are. It is made, and all that is missing
# installed, when a target needs it; make then starts over with it.
deps:
	@rm -f build/deps.mk; $(MAKE) -s build/deps.mk
build/deps.mk: .ci/deps
	@mkdir -p $(@D)
	@CC='$(CC)' sh .ci/deps >$@.new && mv $@.new $@
ifdef LUA_INCDIR # LuaRocks says which Lua
LUAS = rock$(subst /,-,$(LUA_INCDIR))
INC_$(LUAS) = -I$(LUA_INCDIR)
else ifneq ($(filter-out clean deps env help,$(or $(MAKECMDGOALS),all)),)
include build/deps.mk
endif

all: $(LIBRARY) $(filter $(BUILD)/5.4/% $(BUILD)/luajit/%,$(MODULES))
lua5.1 lua5.3 lua5.4: lua%: $(BUILD)/%/respool/core.so
luajit: $(BUILD)/luajit/respool/core.so

$(BUILD)/core/%.o: core/%.c
	@mkdir -p $(@D)
	$(COMPILE) -c $< -o $@
$(BUILD)/core.a: $(CORE_O)
	rm -f $@; $(AR) rcs $@ $^
# One object whose only global names are the public ones.
$(BUILD)/librespool.a: $(CORE_O)
	$(CC) -r -nostdlib $^ -o $(BUILD)/respool.o
	objcopy --localize-hidden $(BUILD)/respool.o
	rm -f $@; $(AR) rcs $@ $(BUILD)/respool.o
$(BUILD)/librespool.so: $(CORE_O)
	$(SHARED) -Wl,-soname,librespool.so.0 -Wl,-z,defs $^ $(LIBS) -o $@

define module
$(BUILD)/$(1)/binding/%.o: lua/binding/%.c
	@mkdir -p $$(@D)
	$$(COMPILE) $(INC_$(1)) -c $$< -o $$@
$(BUILD)/$(1)/respool/core.so: $(BINDING:%=$(BUILD)/$(1)/binding/%.o) \
                               $(BUILD)/core.a
	@mkdir -p $$(@D)
	$$(SHARED) $$^ -Wl,--exclude-libs,ALL $$(LIBS) -o $$@
endef
$(foreach lua,$(LUAS),$(eval $(call module,$(lua))))

# Examples are built as a user would, the C specs see the insides.
$(EXAMPLES:%=$(BUILD)/%): $(BUILD)/%: examples/%.c $(BUILD)/librespool.a
	$(COMPILE) $^ $(LDFLAGS) $(LIBS) -o $@
$(BUILD)/spec/%: spec/c/%.c $(BUILD)/core.a
	@mkdir -p $(@D)
	$(COMPILE) $^ $(LDFLAGS) $(LIBS) -o $@
$(BUILD)/bench/%: bench/%.c bench/bench.c $(BUILD)/librespool.a
	@mkdir -p $(@D)
	$(COMPILE) $^ $(LDFLAGS) $(LIBS) $(LIBS_$*) -o $@
LIBS_sqlite = -lsqlite3

# Power cuts and kills; the core that is killed has points for it.
$(BUILD)/spec/fault/recorder.so: spec/fault/recorder.c
	@mkdir -p $(@D)
	$(COMPILE) -shared $^ $(LDFLAGS) -ldl -o $@
ACTORS = $(patsubst %,spec/fault/%.c,actors verbs model)
$(BUILD)/spec/fault/workload: spec/fault/workload.c $(ACTORS) $(BUILD)/core.a
$(BUILD)/spec/fault/replay: $(BUILD)/core.a \
  $(patsubst %,spec/fault/%.c,replay disk model pages)
$(BUILD)/spec/fault/kill: spec/fault/kill.c spec/fault/points.c $(ACTORS) \
                          $(BUILD)/points.a
$(BUILD)/spec/fault/workload $(BUILD)/spec/fault/replay \
$(BUILD)/spec/fault/kill: $(wildcard spec/fault/*.h)
	@mkdir -p $(@D)
	$(COMPILE) $(filter %.c,$^) $(filter %.a,$^) $(LDFLAGS) $(LIBS) -ldl -o $@
$(BUILD)/points/%.o: core/%.c
	@mkdir -p $(@D)
	$(COMPILE) -DRESPOOL_FAULTS -c $< -o $@
$(BUILD)/points.a: $(CORE:%=$(BUILD)/points/%.o)
	rm -f $@; $(AR) rcs $@ $^

# Programs in whose world calls fail; they bring an allocator of their own,
# so no sanitizer goes with them.
FAILING_O = $(patsubst %,$(BUILD)/fault/%.o,faults ledger)
$(BUILD)/fault/%.o: spec/fault/%.c
	@mkdir -p $(@D)
	$(COMPILE) -fvisibility=default $(INC_5.4) -c $< -o $@
$(BUILD)/fault/failing: $(BUILD)/fault/failing.o $(BUILD)/fault/scenario.o \
                        $(FAILING_O) $(BUILD)/core.a
	$(LINK) $^ $(LIBS) -o $@
$(BUILD)/fault/failing_lua: $(BUILD)/fault/failing_lua.o $(FAILING_O) \
                            $(BUILD)/core.a
	$(LINK) $^ $(LIBS) $$(pkg-config --libs lua5.4) -o $@

# Fuzz targets; without libFuzzer their main goes over the corpus.
FUZZ_MAIN = spec/fuzz/replay.c
$(BUILD)/fuzz/%: spec/fuzz/%.c $(FUZZ_MAIN) $(BUILD)/core.a \
                 $(BINDING:%=$(BUILD)/5.4/binding/%.o)
	@mkdir -p $(@D)
	$(COMPILE) $(INC_5.4) $(filter %.c %.o,$^) $(BUILD)/core.a $(LDFLAGS) \
	  $(LIBS) $$(pkg-config --libs lua5.4) -o $@

-include $(wildcard $(addprefix $(BUILD)/,*.d */*.d */*/*.d */*/*/*.d \
  */*/*/*/*.d))

demo: all
	$(call run,lua5.4) examples/demo.lua
bench: all $(BENCH_C:%=$(BUILD)/bench/%)
	$(if $(filter-out quick,$(BENCH)),$(error BENCH=quick, or nothing))
	$(call run,lua5.4) bench/run.lua $(if $(filter quick,$(BENCH)),--quick) \
	  --out $(BUILD)/bench/speed.tsv
	$(if $(PLOT),lua5.4 bench/plot.lua $(BUILD)/bench/speed.tsv \
	  >$(BUILD)/speed.svg && mv $(BUILD)/speed.svg doc/speed.svg)
soak: all
	$(call run,lua5.4) bench/soak.lua --seconds $(or $(SECONDS),180)
bench-nginx: all
	$(call run,lua5.4) bench/nginx.lua
run = eval "$$($(MAKE) -s env LUA=$(1))"; $(1)

test: lint all $(MODULES) $(PROGRAMS) $(FAILING) $(ATTACKS) \
      $(FUZZ:%=$(BUILD)/fuzz/%)
	@BUILD=$(BUILD) spec/run \
	  $(patsubst %,'% $(SPECS)',$(filter 5.4 luajit,$(LUAS))) \
	  $(patsubst %,'% $(SHORT_SPECS)',$(filter 5.3 5.1,$(LUAS)))

# Attacks on stores, one by one; FAULT=long makes them long.
fault: all $(ATTACKS) $(FAILING) $(BUILD)/spec/reader $(BUILD)/spec/damage
	@BUILD=$(BUILD) spec/fault/run $(FAULTS)

# Compilers with warnings as errors, and the Lua linter.
lint:
	luacheck -q lua bin/respool spec examples bench
	@for c in $(CORE:%=core/%.c) $(EXAMPLES:%=examples/%.c) \
	    $(SPEC_C:%=spec/c/%.c) $(FAULT_SRC:%=spec/fault/%.c) bench/*.c; do \
	  $(call check,$$c,) || exit; done
	@for c in $(BINDING:%=lua/binding/%.c); do \
	  $(call check,$$c,$(INC_5.4)) && $(call check,$$c,$(INC_luajit)) || \
	    exit; done
	@for c in spec/fault/failing_lua.c spec/fuzz/*.c; do \
	  $(call check,$$c,$(INC_5.4)) || exit; done
check = gcc $(C) -Werror -O2 -S $(2) $(1) -o /dev/null && \
  clang $(C) -Werror -fsyntax-only $(2) $(1)

SAN = -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all -fsanitize=
asan:
	@$(MAKE) BUILD=build/asan CFLAGS='$(SAN)address,undefined' run-asan
tsan:
	@$(MAKE) BUILD=build/tsan CFLAGS='$(SAN)thread' run-tsan
# A minute for each decoder of bytes from outside; FUZZ_SECONDS makes it more.
fuzz:
	@$(MAKE) BUILD=build/fuzzing CC=clang FUZZ_MAIN= LDFLAGS=-fsanitize=fuzzer \
	  CFLAGS='$(SAN)fuzzer-no-link,address,undefined' run-fuzz
run-fuzz: $(FUZZ:%=$(BUILD)/fuzz/%)
	@for f in $(FUZZ); do mkdir -p $(BUILD)/corpus/$$f || exit; \
	  echo "== $$f"; $(BUILD)/fuzz/$$f -max_total_time=$(FUZZ_SECONDS) \
	    -timeout=60 -print_final_stats=1 -verbosity=0 \
	    -artifact_prefix=$(BUILD)/ $(BUILD)/corpus/$$f \
	    spec/fuzz/corpus/$$f || exit; done
# Reports go to files, as also a shell or ls that a spec starts has leaks to
# report; those that name us count.
run-asan: $(BUILD)/5.4/respool/core.so $(PROGRAMS)
	$(BUILD)/spec/leaves
	$(BUILD)/lifecycle >$(BUILD)/lifecycle.log
	@rm -f $(BUILD)/report.*
	@BUILD=$(BUILD) spec/run -w "env LD_PRELOAD=$(LIBASAN) \
	  ASAN_OPTIONS=exitcode=0:log_path=$(CURDIR)/$(BUILD)/report" \
	  '5.4 $(ASAN_SPECS)'; status=$$?; \
	! cat $$(grep -lsE '$(OURS)' $(BUILD)/report.*) /dev/null | grep . && \
	  exit $$status
LIBASAN = $(shell $(CC) -print-file-name=libasan.so)
OURS = respool/core.so|lua/binding/|core/.*\.c|liblmdb|libcbor
run-tsan: $(BUILD)/spec/threads $(BUILD)/spec/tickets $(BUILD)/spec/buffers
	$(BUILD)/spec/threads
	$(BUILD)/spec/tickets
	$(BUILD)/spec/buffers

lib = $(DESTDIR)$(PREFIX)/lib
share = $(DESTDIR)$(PREFIX)/share
install: all
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/include include/respool.h
	install -D -m 644 -t $(lib) $(BUILD)/librespool.a
	install -m 755 $(BUILD)/librespool.so $(lib)/librespool.so.0
	ln -sf librespool.so.0 $(lib)/librespool.so
	install -d $(lib)/pkgconfig
	printf '%s\n' 'Name: respool' 'Description: durable queue' \
	  'Version: $(VERSION)' 'Cflags: -I$(PREFIX)/include' \
	  'Libs: -L$(PREFIX)/lib -lrespool' \
	  'Libs.private: $(LIBS) -pthread' >$(lib)/pkgconfig/respool.pc
	$(call install_lua,5.4,$(share)/lua/5.4,$(lib)/lua/5.4)
	$(if $(filter luajit,$(LUAS)),\
	  $(call install_lua,luajit,$(share)/lua/5.1,$(lib)/lua/5.1))
	install -D -m 755 bin/respool $(DESTDIR)$(PREFIX)/bin/respool
	sed -i -e '1s/lua5.4/$(LUA)/' \
	  -e 's|^local PREFIX = nil$$|local PREFIX = "$(PREFIX)"|' \
	  $(DESTDIR)$(PREFIX)/bin/respool
	install -D -m 644 -t $(share)/man/man1 doc/respool.1
rock: $(MODULES)
rock-install: rock
	$(call install_lua,$(LUAS),$(INST_LUADIR),$(INST_LIBDIR))
install_lua = cd lua && for f in $(LUA_FILES); do \
    install -D -m 644 $$f $(2)/$$f || exit; done && cd .. && \
  install -D -m 755 $(BUILD)/$(1)/respool/core.so $(3)/respool/core.so

# The tree as it stands, for `eval "$(make env)"`.
env:
	@echo "export RESPOOL_BUILD='$(CURDIR)/$(BUILD)'"
	@echo "export LUA_PATH='$(CURDIR)/lua/?.lua;$(CURDIR)/lua/?/init.lua;;'"
	@echo "export PATH='$(CURDIR)/bin':\"\$$PATH\""
	@echo "export LUA_CPATH='$(CURDIR)/$(BUILD)/$(LUA:lua5.%=5.%)/?.so;;'"
clean:
	rm -rf build
help:
	@echo 'all      library and modules for Lua 5.4 and LuaJIT, in build/'
	@echo 'lua5.1 lua5.3 lua5.4 luajit   the module for one Lua'
	@echo 'demo     real webhooks, delivered, retried, dead, replayed'
	@echo 'test     set-up, lint, specs under every Lua that is there'
	@echo 'asan     the C-heavy specs under address and UB sanitizers'
	@echo 'tsan     a threaded program under the thread sanitizer'
	@echo 'fault    attacks on stores, see doc/proof.md; FAULT=long'
	@echo 'fuzz     decoders and damaged files, a minute each (clang)'
	@echo 'bench    speed, as ratios; BENCH=quick; PLOT=1: doc/speed.svg anew'
	@echo 'soak     load for SECONDS=180: is all flat?'
	@echo 'bench-nginx   the same of requests to nginx, and its stalls'
	@echo 'lint     warnings as errors, gcc and clang; luacheck'
	@echo 'deps     install what is missing (Debian)'
	@echo 'install  into PREFIX=$(PREFIX)'
	@echo 'env      exports for the tree as it stands; LUA=luajit'
	@echo 'clean    remove build/'

.PHONY: all demo test fault fuzz run-fuzz bench bench-nginx soak asan \
  tsan run-asan run-tsan lint install deps env help clean rock rock-install \
  lua5.1 lua5.3 lua5.4 luajit
.DELETE_ON_ERROR:
