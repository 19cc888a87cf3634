# wscast - build, test, install. `make help` lists the targets.
#
# Objects lie in build/<variant>/, the programs of the plain variant in build/.
# The caller's CFLAGS and LDFLAGS are added to ours.

VERSION := $(shell cat VERSION)
COMMIT := $(shell git describe --always --dirty --exclude '*' 2>/dev/null || echo release)
SAN ?=
CC ?= cc

PREFIX ?= /usr/local
SYSCONFDIR ?= $(if $(filter /usr,$(PREFIX)),/etc,$(PREFIX)/etc)
LIBEXECDIR ?= $(PREFIX)/libexec
MANDIR ?= $(PREFIX)/share/man
UNITDIR ?= $(PREFIX)/lib/systemd/system
DATADIR ?= $(PREFIX)/share/wscast

ifeq ($(SAN),)
variant := plain
san_flags :=
bin := build
else
comma := ,
variant := san-$(subst $(comma),-,$(SAN))
san_flags := -fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all
bin := build/$(variant)
endif
obj := build/$(variant)/obj

PKGS := hiredis libsodium libsystemd jansson inih libcrypto
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
LIBEV_LIBS ?= -lev
WSLAY_LIBS ?= -lwslay

WARNINGS := -Wall -Wextra -Wno-unused-parameter -Wshadow -Wvla -Wundef -Wformat=2 \
	-Wstrict-prototypes -Wmissing-prototypes $(if $(WERROR),-Werror)
OPT ?= -O2 -g
HARDEN := -fstack-protector-strong -fPIE \
	$(if $(SAN),,-D_FORTIFY_SOURCE=2)
ALL_CFLAGS = -std=gnu11 $(OPT) $(HARDEN) $(WARNINGS) -I. -D_GNU_SOURCE \
	-DWSCAST_VERSION='"$(VERSION)"' -DWSCAST_COMMIT='"$(COMMIT)"' \
	-DWSCAST_SYSCONFDIR='"$(SYSCONFDIR)"' -DWSCAST_LIBEXECDIR='"$(LIBEXECDIR)"' \
	-ffile-prefix-map=$(CURDIR)=. $(PKG_CFLAGS) $(san_flags) $(CFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now $(san_flags) $(LDFLAGS)
LIBS = $(LIBEV_LIBS) $(WSLAY_LIBS) $(PKG_LIBS)

V ?= 0
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-6s %s\n' $(1) $(2))

programs := wscastd wscast-worker wsctl wsbench
srcs := $(wildcard shm/*.c proto/*.c supervisor/*.c worker/*.c tools/*.c)
shared_objs := $(patsubst %.c,$(obj)/%.o,$(wildcard shm/*.c proto/*.c))
supervisor_objs := $(patsubst %.c,$(obj)/%.o,$(wildcard supervisor/*.c))
worker_objs := $(patsubst %.c,$(obj)/%.o,$(wildcard worker/*.c))
wsctl_objs := $(patsubst %.c,$(obj)/%.o,$(wildcard tools/wsctl*.c))
wsbench_objs := $(patsubst %.c,$(obj)/%.o,$(wildcard tools/wsbench*.c))
unit_tests := $(patsubst tests/unit/%.c,$(bin)/tests/%,$(wildcard tests/unit/test_*.c))

.PHONY: all
all: $(addprefix $(bin)/,$(programs))

$(bin)/wscastd: $(supervisor_objs) $(shared_objs)
$(bin)/wscast-worker: $(worker_objs) $(shared_objs)
$(bin)/wsctl: $(wsctl_objs) $(shared_objs)
$(bin)/wsbench: $(wsbench_objs) $(shared_objs)
$(addprefix $(bin)/,$(programs)):
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS)

# A unit test links what both programs are made of, without their main().
unit_objs := $(filter-out %/main.o,$(shared_objs) $(supervisor_objs) $(worker_objs))
$(bin)/tests/%: tests/unit/%.c $(unit_objs) $(obj)/flags
	$(call say,TEST,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -MF $(obj)/$*.test.d $(ALL_LDFLAGS) -o $@ $< \
		$(filter %.o,$^) $(LIBS) -lcmocka

$(obj)/%.o: %.c $(obj)/flags
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# Remade, and with it every object, when the flags change.
$(obj)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(subst ','"'"',$(ALL_CFLAGS) $(ALL_LDFLAGS) $(LIBS))' | cmp -s - $@ || \
		echo '$(CC) $(subst ','"'"',$(ALL_CFLAGS) $(ALL_LDFLAGS) $(LIBS))' >$@
.PHONY: FORCE

-include $(shell find $(obj) -name '*.d' 2>/dev/null)

.PHONY: unit
unit: $(unit_tests)
	$(Q)for t in $(unit_tests); do $$t || exit 1; done

.PHONY: clean
clean:
	rm -rf build
