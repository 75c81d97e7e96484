# gimux: everything is built under build/. "make help" lists the targets.
BUILD    ?= build
# One name for one place: what is in the .d files is relative.
override BUILD := $(patsubst $(CURDIR)/%,%,$(BUILD))
PREFIX   ?= /usr/local
DESTDIR  ?=
VERSION  := 0.1.0
# make's own default is cc; what is given, in the environment or as CC=..., counts.
ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin AR),default)
AR := ar
endif
CLANG      = clang
PKG_CONFIG ?= pkg-config
OPTIMIZE ?= -O2 -g
SANITIZE ?=
CSTD     := -std=gnu11 -D_GNU_SOURCE -DGIMUX_VERSION='"$(VERSION)"'
WARN     := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wvla
# clang takes the macros of libseccomp, and a { NULL } for a struct, for mistakes.
ifneq ($(findstring clang,$(CC)),)
WARN += -Wno-missing-field-initializers
endif
# What a compiler suspects depends on how it optimizes: it stops nobody who has flags of his own.
ifeq ($(CFLAGS),)
WARN += -Werror
endif
# CFLAGS, CPPFLAGS and LDFLAGS belong to who builds: they come last, and nothing is lost by giving them.
OUR_CPPFLAGS = -I. -Iclient -I$(BUILD)/gen $(CPPFLAGS)
PLAIN_CFLAGS = $(OPTIMIZE) $(CSTD) -fPIC $(SANITIZE) $(CFLAGS)
OUR_CFLAGS   = $(OPTIMIZE) $(CSTD) $(WARN) -fPIC -fno-semantic-interposition -fstack-protector-strong $(SANITIZE) $(CFLAGS)
OUR_LDFLAGS  = $(SANITIZE) $(CFLAGS) $(LDFLAGS) $(WRAP)
PYTHON   := /usr/bin/python3
FUZZ_SECONDS ?= 60

.DEFAULT_GOAL := all
V ?= 0
ifeq ($(V),0)
say = @printf '  %-8s %s\n' $(1) $(2);
endif
.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDARY:

# The flags of the libraries, found once the packages are there.
ifeq ($(filter help clean deps,$(MAKECMDGOALS)),)
include $(BUILD)/config.mk
endif

$(BUILD)/config.mk: packaging/deps
	@packaging/deps build
	@mkdir -p $(@D)
	@for lib in libevent openssl libprotobuf-c libconfuse jansson libseccomp libpcap zlib; do \
		libs=$$($(PKG_CONFIG) --libs $$lib) || exit 1; \
		echo "$$(echo $$lib | tr a-z- A-Z_)_LIBS := $$libs"; \
	done > $@

# ---- generated code ----
PB := $(BUILD)/gen/proto/gimux.pb-c
HANDOVER_PB := $(BUILD)/gen/proto/handover.pb-c
$(BUILD)/gen/proto/%.pb-c.c $(BUILD)/gen/proto/%.pb-c.h &: proto/%.proto
	@mkdir -p $(@D)
	$(call say,PROTOC,$<)protoc-c --c_out=$(BUILD)/gen $<

# ---- objects ----
objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
PROTO_SRC  := $(wildcard proto/*.c)
PROTO_PURE := $(filter-out proto/certificate.c,$(PROTO_SRC)) # needs no OpenSSL
MUX_SRC    := $(wildcard mux/*/*.c)
CLIENT_SRC := $(wildcard client/*.c)
SIM_SRC    := $(wildcard thinagent-sim/*.c thinagent-sim/*/*.c)

$(BUILD)/obj/%.o: %.c $(PB).h $(HANDOVER_PB).h $(BUILD)/config.mk
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(OUR_CPPFLAGS) $(OUR_CFLAGS) -MMD -MP -c -o $@ $<
$(PB).o $(HANDOVER_PB).o: %.o: %.c
	$(call say,CC,$<)$(CC) $(OUR_CPPFLAGS) $(PLAIN_CFLAGS) -c -o $@ $<
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

# Archives: the wire, the daemon without its main, the driver simulator without its main; what chaos judges by.
$(BUILD)/libproto.a: $(call objects,$(PROTO_SRC)) $(PB).o
$(BUILD)/libmux.a: $(call objects,$(filter-out mux/process/main.c,$(MUX_SRC))) $(HANDOVER_PB).o
$(BUILD)/libsim.a: $(call objects,$(filter-out thinagent-sim/main.c,$(SIM_SRC)))
$(BUILD)/libledger.a: $(call objects,tests/chaos/ledger.c tests/chaos/tally.c)
$(BUILD)/libproto.a $(BUILD)/libmux.a $(BUILD)/libsim.a $(BUILD)/libledger.a:
	@rm -f $@
	$(call say,AR,$@)$(AR) qcs $@ $^

MUX_LIBS    = $(LIBEVENT_LIBS) $(OPENSSL_LIBS) $(LIBPROTOBUF_C_LIBS) $(LIBCONFUSE_LIBS) $(JANSSON_LIBS) $(LIBSECCOMP_LIBS)
CLIENT_LIBS = $(OPENSSL_LIBS) $(LIBPROTOBUF_C_LIBS)
SIM_LIBS    = $(LIBPCAP_LIBS) $(JANSSON_LIBS) $(ZLIB_LIBS) $(LIBEVENT_LIBS)

$(BUILD)/gimuxd: $(BUILD)/obj/mux/process/main.o $(BUILD)/libmux.a $(BUILD)/libproto.a
	$(call say,LINK,$@)$(CC) $(OUR_LDFLAGS) -o $@ $^ $(MUX_LIBS)
$(BUILD)/thinagent-sim: $(BUILD)/obj/thinagent-sim/main.o $(BUILD)/libsim.a $(BUILD)/libproto.a
	$(call say,LINK,$@)$(CC) $(OUR_LDFLAGS) -o $@ $^ $(SIM_LIBS)

# The client library carries the wire code that it needs; only gimux_client_* is visible in the .so.
CLIENT_OBJ := $(call objects,$(CLIENT_SRC) proto/delimited.c proto/address.c proto/certificate.c) $(PB).o
$(BUILD)/libgimux_client.a: $(CLIENT_OBJ)
	@rm -f $@
	$(call say,AR,$@)$(AR) qcs $@ $^
$(BUILD)/libgimux_client.so.1: $(CLIENT_OBJ) client/libgimux_client.map
	$(call say,LINK,$@)$(CC) $(OUR_LDFLAGS) -shared -Wl,-soname,$(@F) -Wl,--version-script=client/libgimux_client.map -o $@ \
		$(filter %.o,$^) $(CLIENT_LIBS)
SVM_TAIL_OBJ := $(call objects,tools/svm-tail.c $(wildcard tools/svm_tail_*.c))
$(BUILD)/svm-tail: $(SVM_TAIL_OBJ) $(BUILD)/libgimux_client.a $(BUILD)/libproto.a
	$(call say,LINK,$@)$(CC) $(OUR_LDFLAGS) -o $@ $^ $(CLIENT_LIBS) $(JANSSON_LIBS)
$(BUILD)/svm-minimal: $(BUILD)/obj/client/examples/minimal.o $(BUILD)/libgimux_client.a
	$(call say,LINK,$@)$(CC) $(OUR_LDFLAGS) -o $@ $^ $(CLIENT_LIBS)

PROGRAMS := $(addprefix $(BUILD)/,gimuxd thinagent-sim svm-tail svm-minimal)
LIBRARIES := $(BUILD)/libgimux_client.a $(BUILD)/libgimux_client.so.1
.PHONY: all
all: $(PROGRAMS) $(LIBRARIES) ## build the daemon, the client library and the tools

# ---- programs for hosts without our libraries: a VIB, a guest's initramfs ----
# libpcap.a wants libdbus, and that two functions of libsystemd, of which Debian has no archive.
STATIC_LIBS = $$($(PKG_CONFIG) --static --libs $(1))
STATIC_SIM  = -lpcap -ldbus-1 -Wl,--defsym=sd_listen_fds=0,--defsym=sd_is_socket=0
STATIC_LD   = $(CC) $(OUR_LDFLAGS) -static -o $@ $^
$(BUILD)/gimuxd-static: $(BUILD)/obj/mux/process/main.o $(BUILD)/libmux.a $(BUILD)/libproto.a
	$(call say,LINK,$@)$(STATIC_LD) $(call STATIC_LIBS,libevent openssl libprotobuf-c libconfuse jansson libseccomp) 2> $@.log || \
		{ cat $@.log >&2; false; }
$(BUILD)/thinagent-sim-static: $(BUILD)/obj/thinagent-sim/main.o $(BUILD)/libsim.a $(BUILD)/libproto.a
	$(call say,LINK,$@)$(STATIC_LD) $(STATIC_SIM) $(call STATIC_LIBS,jansson zlib libevent libprotobuf-c) 2> $@.log || \
		{ cat $@.log >&2; false; }
$(BUILD)/svm-tail-static: $(SVM_TAIL_OBJ) $(BUILD)/libgimux_client.a $(BUILD)/libproto.a
	$(call say,LINK,$@)$(STATIC_LD) $(call STATIC_LIBS,openssl libprotobuf-c jansson) 2> $@.log || \
		{ cat $@.log >&2; false; }
.PHONY: static
static: $(addprefix $(BUILD)/,gimuxd-static thinagent-sim-static svm-tail-static) ## the same programs, linked statically

# ---- tests ----
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/*/test_*.c))
TEST_LIBS := $(addprefix $(BUILD)/,libledger.a libmux.a libsim.a libgimux_client.a libproto.a)
$(BUILD)/tests/route/test_route_streams: WRAP = -Wl,--wrap=realloc
$(BUILD)/tests/base/test_descriptors: WRAP = -Wl,--wrap=realloc
$(BUILD)/tests/base/test_parcel: WRAP = -Wl,--wrap=malloc -Wl,--wrap=realloc -Wl,--wrap=strdup
$(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.o $(TEST_LIBS)
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(OUR_LDFLAGS) -o $@ $^ -lcmocka $(MUX_LIBS) $(SIM_LIBS)

# Unit tests run with the sanitizers, in a build of their own; end-to-end tests with the programs as they are shipped.
SANITIZED := $(BUILD)/sanitized
.PHONY: check unit e2e
check: unit e2e ## run every test but make vmtest
unit: | test-deps ## C tests of each module, under ASan and UBSan
	@$(MAKE) --no-print-directory BUILD=$(SANITIZED) SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=undefined" \
		OPTIMIZE="-O1 -g" unit-run
.PHONY: unit-run
unit-run: $(UNIT)
	@tests/unit/run $(UNIT)
e2e: all static $(addprefix $(BUILD)/bench/,bench relay) | test-deps ## the real programs over real sockets, driven by pytest
	GIMUX_BUILD=$(BUILD) $(PYTHON) -m pytest -q -n 4 -p no:cacheprovider tests/e2e

# Another architecture: everything is cross-compiled, and QEMU's user mode runs the C tests, without sanitizers.
ARM64      := $(BUILD)/arm64
ARM64_ROOT := $(abspath $(ARM64))/root
ARM64_MAKE  = PKG_CONFIG_SYSROOT_DIR=$(ARM64_ROOT) \
	PKG_CONFIG_LIBDIR=$(ARM64_ROOT)/usr/lib/aarch64-linux-gnu/pkgconfig:$(ARM64_ROOT)/usr/share/pkgconfig \
	UNIT_RUNNER="qemu-aarch64-static -L $(ARM64_ROOT)" $(MAKE) --no-print-directory BUILD=$(ARM64) AR=aarch64-linux-gnu-ar \
	CC="aarch64-linux-gnu-gcc --sysroot=$(ARM64_ROOT)"
$(ARM64)/root.made: packaging/arm64 | arm64-deps
	packaging/arm64 $(ARM64)/root
	@touch $@
.PHONY: arm64
arm64: $(ARM64)/root.made ## everything for arm64, in build/arm64, and its C tests under QEMU
	+@$(ARM64_MAKE) all static unit-run

.PHONY: vmtest
vmtest: static | vm-deps ## a real guest kernel under QEMU: vsock inside it, virtio-serial out of it
	GIMUX_BUILD=$(BUILD) tests/vm/run

FUZZ := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_SRC := $(PROTO_PURE) $(addprefix mux/,event/text.c event/ntpath.c event/normalize.c event/field.c store/segment.c) \
	thinagent-sim/trace/trace.c thinagent-sim/memory.c
FUZZ_FLAGS := -g -O1 $(CSTD) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined
$(BUILD)/fuzz/%: tests/fuzz/%.c $(FUZZ_SRC) $(PB).c | fuzz-deps
	@mkdir -p $(@D)
	$(call say,FUZZ,$@)$(CLANG) $(OUR_CPPFLAGS) $(FUZZ_FLAGS) -o $@ $< $(FUZZ_SRC) $(PB).c -lprotobuf-c -lpcap
# The whole daemon but its main; the clock, the timers and the log are the fuzzer's own (tests/fuzz/session_world.h).
SESSION_SRC  := $(PROTO_SRC) $(filter-out mux/process/main.c,$(MUX_SRC))
SESSION_WRAP := loop_now loop_timer_new loop_timer_start loop_timer_stop loop_timer_free log_line normalizer_new normalizer_free vmlog_pool_fini
$(BUILD)/fuzz/fuzz_guest_session: tests/fuzz/fuzz_guest_session.c $(wildcard tests/fuzz/session_*.h) tests/fuzz/one_normalizer.h tests/fuzz/pool_comes_back.h $(SESSION_SRC) $(PB).c $(HANDOVER_PB).c | fuzz-deps
	@mkdir -p $(@D)
	$(call say,FUZZ,$@)$(CLANG) $(OUR_CPPFLAGS) $(FUZZ_FLAGS) $(SESSION_WRAP:%=-Wl,--wrap=%) -o $@ $< $(SESSION_SRC) $(PB).c $(HANDOVER_PB).c $(MUX_LIBS)
# VM logs in files and who is served from them; disk, loop and log are the fuzzer's own (tests/unit/store/store_world.h).
RECOVER_SRC := $(PROTO_PURE) $(wildcard mux/vmlog/*.c mux/event/*.c) $(filter-out mux/store/disk.c,$(wildcard mux/store/*.c)) \
	$(wildcard mux/route/*.c) $(addprefix mux/base/,stats.c histogram.c parcel.c descriptors.c)
RECOVER_WRAP := normalizer_new normalizer_free vmlog_pool_fini
$(BUILD)/fuzz/fuzz_recover: tests/fuzz/fuzz_recover.c tests/fuzz/recover_files.h tests/fuzz/one_normalizer.h tests/fuzz/pool_comes_back.h $(wildcard tests/unit/store/*.h) $(RECOVER_SRC) $(PB).c $(HANDOVER_PB).c | fuzz-deps
	@mkdir -p $(@D)
	$(call say,FUZZ,$@)$(CLANG) $(OUR_CPPFLAGS) $(FUZZ_FLAGS) $(RECOVER_WRAP:%=-Wl,--wrap=%) -o $@ $< $(RECOVER_SRC) $(PB).c \
		$(HANDOVER_PB).c -lprotobuf-c -lcmocka
.PHONY: fuzz
fuzz: $(FUZZ) ## each fuzz target for FUZZ_SECONDS (60) from its seed corpus
	@tests/fuzz/run $(FUZZ_SECONDS) $(FUZZ)

.PHONY: soak
soak: all | test-deps ## 1,024 VMs for SOAK_SECONDS (3600), SVMs away for SOAK_AWAY (600), memory measured
	GIMUX_BUILD=$(BUILD) $(PYTHON) tests/soak/soak.py

# Chaos: one program that runs the real gimuxd while things go wrong, and compares every event.
CHAOS_SRC := $(filter-out tests/chaos/powercut.c,$(wildcard tests/chaos/*.c))
CHAOS_OPTIONS = $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) \
	$(if $(SCENARIO),--scenario $(SCENARIO))
CHAOS_JSON ?= $(BUILD)/chaos.json
$(BUILD)/chaos/chaos: $(call objects,$(CHAOS_SRC) mux/store/segment.c) $(BUILD)/libgimux_client.a $(BUILD)/libproto.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(OUR_LDFLAGS) -o $@ $^ $(CLIENT_LIBS) $(JANSSON_LIBS)
$(BUILD)/chaos/powercut.so: tests/chaos/powercut.c tests/chaos/journal.h
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(OUR_CPPFLAGS) $(OPTIMIZE) $(CSTD) $(WARN) -fPIC $(CFLAGS) -shared -o $@ $< -ldl -lpthread
.PHONY: chaos
chaos: $(addprefix $(BUILD)/,gimuxd chaos/chaos chaos/powercut.so) ## the contract under fire: ROUNDS= SECONDS= SEED= SCENARIO=
	@GIMUX_BUILD=$(BUILD) $(BUILD)/chaos/chaos --gimuxd $(BUILD)/gimuxd --json $(CHAOS_JSON) $(CHAOS_OPTIONS)

# The same daemon under ThreadSanitizer: what the loop and the disk thread share.
RACES := $(BUILD)/races
RACES_SECONDS ?= 10
.PHONY: races
races: $(BUILD)/chaos/chaos $(BUILD)/chaos/powercut.so | test-deps ## data races between the threads, RACES_SECONDS (10) a scenario
	@$(MAKE) --no-print-directory BUILD=$(RACES) SANITIZE=-fsanitize=thread OPTIMIZE="-O1 -g" all
	@tests/races/run $(BUILD) $(RACES) $(RACES_SECONDS)

# ---- what the event path costs ----
MICROBENCH_SRC := $(wildcard tests/microbench/*.c)
MICROBENCH_WRAP := loop_now loop_now_ns loop_turn_began
$(BUILD)/microbench: $(call objects,$(MICROBENCH_SRC)) $(addprefix $(BUILD)/,libmux.a libsim.a libproto.a)
	$(call say,LINK,$@)$(CC) $(OUR_LDFLAGS) $(MICROBENCH_WRAP:%=-Wl,--wrap=%) -o $@ $^ $(MUX_LIBS) $(SIM_LIBS)
.PHONY: microbench instructions
microbench: $(BUILD)/microbench | microbench-deps ## nanoseconds and instructions per event of each step; build/microbench.json
	@GIMUX_BUILD=$(BUILD) tests/microbench/run --json $(BUILD)/microbench.json
instructions: $(BUILD)/microbench | microbench-deps ## the instructions of the whole event path, against the committed figure
	@GIMUX_BUILD=$(BUILD) tests/microbench/run --gate

# Benchmark: the whole daemon beside brokers and beside the limit; what is not installed is left out.
BENCH_OWN  := distil relay zmq_proxy
BENCH_SRC  := $(filter-out $(BENCH_OWN:%=tests/bench/%.c),$(wildcard tests/bench/*.c)) tests/chaos/pki.c
BENCH_JSON ?= $(BUILD)/bench.json
BENCH_OPTIONS = --gimuxd $(BUILD)/gimuxd --programs $(BUILD)/bench --json $(BENCH_JSON) $(if $(filter quick,$(BENCH)),--quick) \
	$(SCENARIO:%=--scenario %) $(SYSTEM:%=--system %)
$(BUILD)/bench/bench: $(call objects,$(BENCH_SRC)) $(BUILD)/libproto.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(OUR_LDFLAGS) -o $@ $^ $(CLIENT_LIBS) $(JANSSON_LIBS)
$(BUILD)/bench/relay: $(call objects,tests/bench/relay.c)
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(OUR_LDFLAGS) -o $@ $^
$(BUILD)/bench/zmq_proxy: $(call objects,tests/bench/zmq_proxy.c)
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(OUR_LDFLAGS) -o $@ $^ -lzmq
$(BUILD)/bench/distil: $(call objects,tests/bench/distil.c tests/bench/mix.c) $(BUILD)/libsim.a $(BUILD)/libproto.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(OUR_LDFLAGS) -o $@ $^ $(SIM_LIBS)
BENCH_PROGRAMS := $(addprefix $(BUILD)/,gimuxd bench/bench bench/relay $(if $(wildcard /usr/include/zmq.h),bench/zmq_proxy))
.PHONY: bench bench-programs bench-plot
bench-programs: $(BENCH_PROGRAMS)
bench: $(BENCH_PROGRAMS) ## what a delivery costs, beside brokers and the limit: BENCH=quick SCENARIO= SYSTEM=
	@$(BUILD)/bench/bench $(BENCH_OPTIONS)
bench-plot: | plot-deps ## what make bench has measured, as build/bench/*.svg
	@tests/bench/plot.py $(BENCH_JSON) $(BUILD)/bench

# ---- lint ----
C_FILES := $(filter-out $(BUILD)/% %.pb-c.c,$(wildcard */*.c */*/*.c tests/unit/*/*.c))
H_FILES := $(filter-out $(BUILD)/%,$(wildcard */*.h */*/*.h tests/unit/*/*.h))
.PHONY: lint
lint: $(PB).h $(HANDOVER_PB).h | lint-deps ## clang-format, which file may include what, cppcheck, clang-tidy
	@tests/lint/run $(BUILD) $(C_FILES) -- $(H_FILES)

$(BUILD)/compile_commands.json: Makefile $(C_FILES)
	@{ printf '['; comma=; for file in $(C_FILES); do \
		printf '%s\n{"directory": "%s", "file": "%s", "arguments": [' "$$comma" "$(CURDIR)" $$file; \
		printf '"%s", ' $(CC) $(OUR_CPPFLAGS) $(subst ',,$(subst ",\\\",$(OUR_CFLAGS))) -c; printf '"%s"]}' $$file; comma=,; \
	done; printf '\n]\n'; } > $@
.PHONY: compile_commands
compile_commands: $(BUILD)/compile_commands.json ## for editors and clangd: build/compile_commands.json

# ---- trying it ----
.PHONY: demo run
demo: all | demo-deps ## the main job for some seconds: VMs, SVMs, a table that adds up
	@GIMUX_BUILD=$(BUILD) $(PYTHON) tests/demo.py
run: $(BUILD)/gimuxd ## a gimuxd of your own under build/run, in the foreground
	@mkdir -p $(BUILD)/run
	@sed 's|@RUN@|$(abspath $(BUILD))/run|g' packaging/run.conf > $(BUILD)/run/gimuxd.conf
	$(BUILD)/gimuxd -f -c $(BUILD)/run/gimuxd.conf

.PHONY: debug sanitized
debug: ## everything without optimization, under build/debug
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/debug OPTIMIZE="-O0 -g3" all
sanitized: ## everything with ASan and UBSan, under build/sanitized
	@$(MAKE) --no-print-directory BUILD=$(SANITIZED) SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=undefined" \
		OPTIMIZE="-O1 -g" all

# ---- packages ----
INSTALL := install -D
root = $(DESTDIR)$(PREFIX)
# They keep their places, so that links between them lead somewhere.
DOCUMENTS := README.md CONTRIBUTING.md LICENSE $(wildcard docs/*.md) proto/gimux.proto client/gimux_client.h \
	client/examples/minimal.c
.PHONY: install vib deb
install: all ## into $(DESTDIR)$(PREFIX)
	$(INSTALL) -m 755 $(BUILD)/gimuxd $(root)/sbin/gimuxd
	$(INSTALL) -m 755 -t $(root)/bin $(BUILD)/thinagent-sim $(BUILD)/svm-tail
	$(INSTALL) -m 644 -t $(root)/lib $(BUILD)/libgimux_client.a $(BUILD)/libgimux_client.so.1
	ln -sf libgimux_client.so.1 $(root)/lib/libgimux_client.so
	$(INSTALL) -m 644 client/gimux_client.h $(root)/include/gimux_client.h
	@mkdir -p $(root)/lib/pkgconfig
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' client/gimux_client.pc.in > $(root)/lib/pkgconfig/gimux_client.pc
	for file in $(DOCUMENTS); do $(INSTALL) -m 644 $$file $(root)/share/doc/gimux/$$file || exit 1; done
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
vib: $(BUILD)/gimuxd-static | package-deps ## build/gimux-VERSION.vib, for ESXi
	packaging/mkvib --binary $< --config packaging/gimuxd.conf --version $(VERSION) --output $(BUILD)/gimux-$(VERSION).vib
deb: all | package-deps ## build/gimux_VERSION_ARCH.deb
	@rm -rf $(BUILD)/deb
	@$(MAKE) --no-print-directory DESTDIR=$(BUILD)/deb PREFIX=/usr install
	packaging/mkdeb --tree $(BUILD)/deb --config packaging/gimuxd.conf --version $(VERSION) --output $(BUILD)

# ---- the rest ----
.PHONY: clean help deps test-deps lint-deps fuzz-deps vm-deps package-deps demo-deps microbench-deps bench-deps plot-deps arm64-deps
test-deps lint-deps fuzz-deps vm-deps package-deps microbench-deps bench-deps plot-deps arm64-deps:
	@packaging/deps $(patsubst %-deps,%,$@)
demo-deps:
	@packaging/deps demo
deps: ## install every Debian package that any target needs
	@packaging/deps build test lint fuzz vm package microbench
clean: ## remove build/
	rm -rf $(BUILD)
help: ## this list
	@echo "gimux $(VERSION). Everything is built under build/. Targets:"
	@sed -n 's/^\([a-z0-9_-]*\):[^#]*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 20
	@echo "Variables: BUILD PREFIX DESTDIR OPTIMIZE SANITIZE FUZZ_SECONDS SOAK_SECONDS SOAK_AWAY SOAK_DURABLE V=1"
