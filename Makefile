# gimux: everything is built under build/. "make help" lists the targets.
BUILD    ?= build
PREFIX   ?= /usr/local
DESTDIR  ?=
VERSION  := 0.1.0
CC       = gcc
CLANG    = clang
OPTIMIZE ?= -O2 -g
SANITIZE ?=
CSTD     := -std=gnu11 -D_GNU_SOURCE -DGIMUX_VERSION='"$(VERSION)"'
WARN     := -Wall -Wextra -Werror -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wvla
CFLAGS   += $(OPTIMIZE) $(CSTD) $(WARN) -fPIC -fstack-protector-strong $(SANITIZE)
CPPFLAGS += -I. -I$(BUILD)/gen
LDFLAGS  += $(SANITIZE)
PYTHON   := /usr/bin/python3
FUZZ_SECONDS ?= 60

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:

# The flags of the libraries, found once the packages are there.
ifeq ($(filter help clean deps,$(MAKECMDGOALS)),)
-include $(BUILD)/config.mk
endif

$(BUILD)/config.mk: packaging/deps
	@packaging/deps build
	@mkdir -p $(@D)
	@for lib in libevent openssl libprotobuf-c libconfuse jansson libpcap zlib; do \
		name=$$(echo $$lib | tr a-z- A-Z_); \
		echo "$${name}_LIBS := $$(pkg-config --libs $$lib)"; \
	done > $@

# ---- generated code ----
PB := $(BUILD)/gen/proto/gimux.pb-c
$(PB).c $(PB).h &: proto/gimux.proto
	@mkdir -p $(@D)
	protoc-c --c_out=$(BUILD)/gen $<

# ---- objects ----
objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
PROTO_SRC  := $(wildcard proto/*.c)
MUX_SRC    := $(wildcard mux/*.c)
CLIENT_SRC := $(wildcard client/*.c)
SIM_SRC    := $(wildcard thinagent-sim/*.c)

$(BUILD)/obj/%.o: %.c $(PB).h $(BUILD)/config.mk
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
$(PB).o: $(PB).c
	$(CC) $(CPPFLAGS) $(OPTIMIZE) $(CSTD) -fPIC $(SANITIZE) -c -o $@ $<
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

# Archives: the wire, the daemon without its main, the driver simulator without its main.
$(BUILD)/libproto.a: $(call objects,$(PROTO_SRC)) $(PB).o
$(BUILD)/libmux.a: $(call objects,$(filter-out mux/main.c,$(MUX_SRC)))
$(BUILD)/libsim.a: $(call objects,$(filter-out thinagent-sim/main.c,$(SIM_SRC)))
$(BUILD)/libproto.a $(BUILD)/libmux.a $(BUILD)/libsim.a:
	@rm -f $@
	ar rcs $@ $^

MUX_LIBS    = $(LIBEVENT_LIBS) $(OPENSSL_LIBS) $(LIBPROTOBUF_C_LIBS) $(LIBCONFUSE_LIBS) $(JANSSON_LIBS)
CLIENT_LIBS = $(OPENSSL_LIBS) $(LIBPROTOBUF_C_LIBS)
SIM_LIBS    = $(LIBPCAP_LIBS) $(JANSSON_LIBS) $(ZLIB_LIBS) $(LIBEVENT_LIBS)

$(BUILD)/gimuxd: $(BUILD)/obj/mux/main.o $(BUILD)/libmux.a $(BUILD)/libproto.a
	$(CC) $(LDFLAGS) -o $@ $^ $(MUX_LIBS)
$(BUILD)/thinagent-sim: $(BUILD)/obj/thinagent-sim/main.o $(BUILD)/libsim.a $(BUILD)/libproto.a
	$(CC) $(LDFLAGS) -o $@ $^ $(SIM_LIBS)

# The client library carries the wire code that it needs; only gimux_client_* is visible in the .so.
CLIENT_OBJ := $(call objects,$(CLIENT_SRC) proto/delimited.c proto/address.c) $(PB).o
$(BUILD)/libgimux_client.a: $(CLIENT_OBJ)
	@rm -f $@
	ar rcs $@ $^
$(BUILD)/libgimux_client.so.1: $(CLIENT_OBJ) client/libgimux_client.map
	$(CC) $(LDFLAGS) -shared -Wl,-soname,$(@F) -Wl,--version-script=client/libgimux_client.map -o $@ \
		$(filter %.o,$^) $(CLIENT_LIBS)
$(BUILD)/svm-tail: $(BUILD)/obj/tools/svm-tail.o $(BUILD)/libgimux_client.a $(BUILD)/libproto.a
	$(CC) $(LDFLAGS) -o $@ $^ $(CLIENT_LIBS) $(JANSSON_LIBS)
$(BUILD)/svm-minimal: $(BUILD)/obj/client/examples/minimal.o $(BUILD)/libgimux_client.a
	$(CC) $(LDFLAGS) -o $@ $^ $(CLIENT_LIBS)

PROGRAMS := $(addprefix $(BUILD)/,gimuxd thinagent-sim svm-tail svm-minimal)
LIBRARIES := $(BUILD)/libgimux_client.a $(BUILD)/libgimux_client.so.1
.PHONY: all
all: $(PROGRAMS) $(LIBRARIES) ## build the daemon, the client library and the tools

# ---- tests ----
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c))
$(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.o $(BUILD)/libmux.a $(BUILD)/libsim.a $(BUILD)/libgimux_client.a $(BUILD)/libproto.a
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ -lcmocka $(MUX_LIBS) $(SIM_LIBS)
