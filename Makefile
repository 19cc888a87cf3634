# wscast - build, test, install. `make help` lists the targets.
#
# Objects lie in build/<variant>/, the programs of the plain variant in build/.
# The caller's CFLAGS and LDFLAGS are added to ours.

VERSION := $(shell cat VERSION)
COMMIT := $(shell packaging/version commit)
SAN ?=
FUZZ ?=

PREFIX ?= /usr/local
SYSCONFDIR ?= $(if $(filter /usr,$(PREFIX)),/etc,$(PREFIX)/etc)
BINDIR ?= $(PREFIX)/bin
SBINDIR ?= $(PREFIX)/sbin
LIBEXECDIR ?= $(PREFIX)/libexec
DATADIR ?= $(PREFIX)/share/wscast
DOCDIR ?= $(PREFIX)/share/doc/wscast
MANDIR ?= $(PREFIX)/share/man
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
FISHDIR ?= $(PREFIX)/share/fish/vendor_completions.d

# variant, bin and CC may also come from the command line: lint builds that way.
comma := ,
ifneq ($(FUZZ),)
CC := clang
variant := fuzz
bin := build/fuzz
san_flags := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all \
	-DSANITIZED
else ifneq ($(SAN),)
variant := san-$(subst $(comma),-,$(SAN))
bin := build/$(variant)
san_flags := -fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all \
	-DSANITIZED
else
variant := plain
bin := build
san_flags :=
endif
CC ?= cc
obj := build/$(variant)/obj

PKGS := libmicrohttpd hiredis libsodium libsystemd jansson inih libssl libcrypto zlib libseccomp
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
LIBEV_LIBS ?= -lev
WSLAY_LIBS ?= -lwslay
# io_uring is used where it was there at build time.
URING := $(if $(shell pkg-config --exists liburing 2>/dev/null && echo yes),-DHAVE_LIBURING)
URING_LIBS := $(if $(URING),$(shell pkg-config --libs liburing))

WARNINGS := -Wall -Wextra -Wno-unused-parameter -Wshadow -Wvla -Wundef -Wformat=2 \
	-Wstrict-prototypes -Wmissing-prototypes $(if $(WERROR),-Werror)
OPT ?= -O2 -g
HARDEN := -fstack-protector-strong -fPIE \
	$(if $(san_flags),,-D_FORTIFY_SOURCE=2)
ALL_CFLAGS = -std=gnu11 $(OPT) $(HARDEN) $(WARNINGS) -I. -D_GNU_SOURCE \
	-DWSCAST_SYSCONFDIR='"$(SYSCONFDIR)"' -DWSCAST_LIBEXECDIR='"$(LIBEXECDIR)"' \
	-ffile-prefix-map=$(CURDIR)=. $(PKG_CFLAGS) $(URING) $(san_flags) $(CPPFLAGS) $(CFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now,--as-needed $(san_flags) $(LDFLAGS)
LIBS = $(LIBEV_LIBS) $(WSLAY_LIBS) $(PKG_LIBS) $(URING_LIBS)

V ?= 0
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-6s %s\n' $(1) $(2))
SUBMAKE = +$(Q)$(MAKE) --no-print-directory
JOBS := $(shell nproc)

programs := wscastd wscast-worker wsctl wsbench
srcs := $(wildcard shm/*.c proto/*.c supervisor/*.c worker/*.c tools/*.c)
headers := $(wildcard shm/*.h proto/*.h supervisor/*.h worker/*.h tools/*.h tests/*/*.h)
test_srcs := $(wildcard tests/unit/*.c tests/fuzz/*.c tests/vm/*.c)
shared_objs := $(patsubst %.c,$(obj)/%.o,$(wildcard shm/*.c proto/*.c))
supervisor_objs := $(patsubst %.c,$(obj)/%.o,$(wildcard supervisor/*.c))
worker_objs := $(patsubst %.c,$(obj)/%.o,$(wildcard worker/*.c))
wsctl_objs := $(patsubst %.c,$(obj)/%.o,$(wildcard tools/wsctl*.c))
wsbench_objs := $(patsubst %.c,$(obj)/%.o,$(wildcard tools/wsbench*.c))
unit_tests := $(patsubst tests/unit/%.c,$(bin)/tests/%,$(wildcard tests/unit/test_*.c))
fuzz_names := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
fuzz_replays := $(addprefix $(bin)/tests/,$(fuzz_names))
integration_tests := $(wildcard tests/integration/test_*.py)
interop_tests := $(wildcard tests/interop/test_*.py)
install_tests := tests/packaging/test_install.py tests/packaging/test_unit.py
man_pages := $(wildcard man/*.[1-8])
scripts := .ci/run packaging/install-deps packaging/version packaging/make-dist \
	packaging/make-deb packaging/make-rpm packaging/debian/wscast.postinst \
	packaging/debian/wscast.postrm packaging/systemd/wscast.after-upgrade.in \
	packaging/demo/run tests/check-includes tests/systemd/can-run \
	tests/bench/peers/run tests/bench/peers/install tests/bench/peers/start

.PHONY: all
all: $(addprefix $(bin)/,$(programs)) ## build the programs into build/

.PHONY: help
help: ## this list
	@awk -F ' *## ' '/^[a-z-]+:.*##/ { sub(/:.*/, "", $$1); printf "  %-14s %s\n", $$1, $$2 }' \
		$(firstword $(MAKEFILE_LIST))
	@echo 'Variables: V=1 WERROR=1 SAN=address,undefined SAN=thread CC CFLAGS LDFLAGS'
	@echo '           TESTS=words (names to run)  BENCH=words (cases, options)'
	@echo '           WSCAST_REDIS_SERVER=command (the tests: another Redis, or Valkey)'
	@echo '           FUZZ_SECONDS=n  HOST= PORT= (make run)'
	@echo '           DESTDIR PREFIX SYSCONFDIR UNITDIR (make install)'

.PHONY: deps
deps: ## install what building and testing need, by the system's package manager
	$(Q)packaging/install-deps build test clients

$(bin)/wscastd: $(supervisor_objs) $(shared_objs)
$(bin)/wscast-worker: $(worker_objs) $(shared_objs)
$(bin)/wsctl: $(wsctl_objs) $(shared_objs)
$(bin)/wsbench: $(wsbench_objs) $(shared_objs)
$(bin)/wsbench: private LIBS += -lm
$(addprefix $(bin)/,$(programs)):
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS)

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

# All that only a restart of the service can change, in one word: an upgrade that leaves
# it the same restarts workers alone (packaging/systemd/wscast.after-upgrade.in).
SUPERVISOR := $(shell cat $(sort $(wildcard shm/*.[ch] proto/*.[ch] supervisor/*.[ch]) \
	packaging/systemd/wscast.service.in) | sha256sum | cut -c-16)
# These go only to the objects that name them: a commit does not remake everything.
version_flags := -DWSCAST_VERSION='"$(VERSION)"' -DWSCAST_COMMIT='"$(COMMIT)"' \
	-DWSCAST_SUPERVISOR='"$(SUPERVISOR)"'
version_srcs := $(shell grep -lE 'WSCAST_(VERSION|COMMIT|SUPERVISOR)' $(srcs) /dev/null)
$(patsubst %.c,$(obj)/%.o,$(version_srcs)): $(obj)/version
$(patsubst %.c,$(obj)/%.o,$(version_srcs)): private PKG_CFLAGS += $(version_flags)
$(obj)/version: FORCE
	@mkdir -p $(@D)
	@echo '$(VERSION) $(COMMIT) $(SUPERVISOR)' | cmp -s - $@ || \
		echo '$(VERSION) $(COMMIT) $(SUPERVISOR)' >$@

# A unit test links what it needs of the programs' parts. Appended, not replaced: two
# folders may have a file of the same name.
$(obj)/parts.a: $(filter-out %/main.o %/wsbench.o,$(shared_objs) $(supervisor_objs) \
	$(worker_objs) $(wsbench_objs))
	@rm -f $@
	$(Q)ar qcs $@ $^
$(bin)/tests/%: tests/unit/%.c $(obj)/parts.a $(obj)/flags
	$(call say,TEST,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -MT $@ -MF $(obj)/$*.test.d $(ALL_LDFLAGS) -o $@ $< \
		$(obj)/parts.a $(LIBS) -lcmocka

# What a delivery calls is counted.
$(bin)/tests/test_fanout_cost: private LIBS += \
	-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=send,--wrap=sendmsg

# The same targets that clang's fuzzer drives, fed with the kept seeds and with each
# cut of them: needs no clang, and works under every sanitizer.
$(bin)/tests/fuzz_%: tests/fuzz/fuzz_%.c tests/fuzz/replay.c $(obj)/parts.a $(obj)/flags
	$(call say,TEST,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -MT $@ -MF $(obj)/fuzz_$*.test.d $(ALL_LDFLAGS) -o $@ \
		$(filter %.c,$^) $(obj)/parts.a $(LIBS)

build/fuzz/fuzz_%: tests/fuzz/fuzz_%.c $(obj)/parts.a $(obj)/flags
	$(call say,FUZZ,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -MT $@ -MF $(obj)/fuzz_$*.test.d $(ALL_LDFLAGS) \
		-fsanitize=fuzzer -o $@ $< $(obj)/parts.a $(LIBS)

-include $(shell find $(obj) -name '*.d' 2>/dev/null)

# What pkg-config says is known only once the libraries are there: those who install
# first build in a second make.
.PHONY: run run-now
run: ## build and start a server with a demo page: no root, no Redis
	$(Q)packaging/install-deps build
	$(SUBMAKE) -j$(JOBS) all
	$(SUBMAKE) run-now
run-now:
	@HOST=$(HOST) PORT=$(PORT) exec packaging/demo/run $(bin)

TESTS ?=
run_tests = $(Q)tests/run --bin $(bin) $(addprefix --only ,$(TESTS))
.PHONY: check check-now unit integration interop test-programs
check: ## run all tests; the last line counts them
	$(Q)packaging/install-deps build test clients
	$(SUBMAKE) -j$(JOBS) all test-programs
	$(SUBMAKE) check-now
check-now:
	$(run_tests) $(unit_tests) $(fuzz_replays) $(integration_tests) $(interop_tests) \
		$(install_tests)
test-programs: $(unit_tests) $(fuzz_replays)
unit: $(unit_tests) $(fuzz_replays) ## build and run the unit tests alone
	$(run_tests) $(unit_tests) $(fuzz_replays)
integration: all ## build and run the integration tests alone
	$(run_tests) $(integration_tests)
interop: all ## build and run the conformance suite and the independent clients alone
	$(run_tests) $(interop_tests)

.PHONY: check-packages check-packages-now
check-packages: ## build the deb and the rpm packages, and check them
	$(Q)packaging/install-deps build test package rpm
	$(SUBMAKE) check-packages-now
check-packages-now:
	$(Q)WSCAST_TEST_TIMEOUT=3600 tests/run --bin $(bin) $(addprefix --only ,$(TESTS)) \
		tests/packaging/test_packages.py

# The packages are built inside the machines: nothing else of build/ is used.
.PHONY: check-systemd check-systemd-now
check-systemd: ## the packages under systemd, in machines of Debian 12 and 13; needs root
	$(Q)packaging/install-deps test machines
	$(SUBMAKE) check-systemd-now
check-systemd-now:
	$(Q)tests/systemd/can-run
	$(Q)WSCAST_TEST_TIMEOUT=3600 tests/run $(addprefix --only ,$(TESTS)) \
		$(wildcard tests/systemd/test_*.py)

# Where this machine's kernel has no TLS: in a virtual machine, emulated and slow.
ktls_modules := tls gcm ccm chacha_generic poly1305_generic chacha20poly1305 aesni_intel
ktls_programs := $(bin)/tests/test_ktls $(bin)/tests/test_tls_keys
.PHONY: check-ktls check-ktls-now
check-ktls: ## run the tests of TLS by the kernel in a virtual machine, 15 minutes (Debian)
	$(Q)packaging/install-deps build test vm
	$(SUBMAKE) -j$(JOBS) all $(ktls_programs)
	$(SUBMAKE) check-ktls-now
check-ktls-now:
	$(Q)WSCAST_SLOW=4 WSCAST_TEST_TIMEOUT=1800 tests/vm/run \
		$(addprefix --module ,$(ktls_modules)) tests/run --bin $(bin) \
		$(addprefix --only ,$(TESTS)) $(ktls_programs) \
		tests/integration/test_tls.py tests/integration/test_ktls.py

.PHONY: soak soak-now
soak: ## run the long demonstrations of tests/soak, some minutes each; TESTS=words
	$(Q)packaging/install-deps build test clients
	$(SUBMAKE) -j$(JOBS) all
	$(SUBMAKE) soak-now
soak-now:
	$(Q)WSCAST_TEST_TIMEOUT=3600 tests/run --bin $(bin) $(addprefix --only ,$(TESTS)) \
		$(wildcard tests/soak/test_*.py)

BENCH ?=
.PHONY: bench bench-now
bench: ## measure against the floor (12 minutes), or BENCH=names of cases, or feed: build/bench/
	$(Q)packaging/install-deps build bench
	$(SUBMAKE) -j$(JOBS) all
	$(SUBMAKE) bench-now
bench-now:
	$(Q)tests/bench/$(if $(filter feed,$(BENCH)),feed --bin $(bin),run --bin $(bin) $(BENCH))

FUZZ_SECONDS ?= 60
.PHONY: fuzz fuzz-now
fuzz: ## fuzz each codec for FUZZ_SECONDS with clang's libFuzzer
	$(Q)packaging/install-deps build lint
	$(SUBMAKE) -j$(JOBS) FUZZ=1 $(addprefix build/fuzz/,$(fuzz_names))
	$(SUBMAKE) FUZZ=1 fuzz-now
# What is new and interesting lands in build/fuzz/corpus; an input that crashes too.
fuzz-now:
	@for f in $(fuzz_names); do \
		seeds=tests/fuzz/seeds/$${f#fuzz_}; mkdir -p build/fuzz/corpus/$$f; \
		[ -d $$seeds ] || seeds=; echo "$$f: $(FUZZ_SECONDS) s"; \
		dict=tests/fuzz/dict/$${f#fuzz_}; [ -f $$dict ] || dict=; \
		build/fuzz/$$f -max_total_time=$(FUZZ_SECONDS) -verbosity=0 \
			-print_final_stats=1 $${dict:+-dict=$$dict} -artifact_prefix=build/fuzz/crash-$$f- \
			build/fuzz/corpus/$$f $$seeds || exit 1; \
	done

.PHONY: lint lint-now lint-gcc lint-clang lint-tidy lint-cppcheck lint-format lint-man \
	lint-scripts check-includes
lint: ## warnings as errors (gcc, clang), clang-tidy, cppcheck, format, includes, man
	$(Q)packaging/install-deps build test lint
	$(SUBMAKE) -k -j$(JOBS) -Otarget lint-now
lint-now: lint-gcc lint-clang lint-tidy lint-cppcheck lint-format lint-man lint-scripts \
	check-includes
objects: $(patsubst %.c,$(obj)/%.o,$(srcs) $(test_srcs))
.PHONY: objects
lint-gcc:
	$(SUBMAKE) variant=lint-gcc CC=gcc WERROR=1 objects
lint-clang:
	$(SUBMAKE) variant=lint-clang CC=clang WERROR=1 objects
# Cached by file: a header's change checks all again.
lint-tidy: $(patsubst %.c,build/lint/%.tidy,$(srcs) $(test_srcs))
build/lint/%.tidy: %.c $(headers) .clang-tidy
	$(call say,TIDY,$<)
	@mkdir -p $(@D)
	$(Q)clang-tidy --quiet $< -- $(ALL_CFLAGS) $(version_flags) >$@.out 2>&1 || \
		{ cat $@.out; exit 1; }; mv $@.out $@
lint-cppcheck: build/lint/cppcheck
build/lint/cppcheck: $(srcs) $(headers)
	$(call say,CPPCHK,'$(words $(srcs)) files')
	@mkdir -p $(@D)
	$(Q)cppcheck -q --std=c11 -I. -D_GNU_SOURCE $(version_flags) --inline-suppr \
		--enable=warning,performance,portability --error-exitcode=1 \
		--suppress=missingIncludeSystem --suppress=readdirCalled \
		-D'json_array_foreach(a,i,v)=for(i=0;(v=json_array_get(a,i))!=0;i++)' \
		-D'json_object_foreach(o,k,v)=for(;(v=json_object_get(o,k))!=0;)' \
		--library=posix --library=gnu $(srcs)
	@touch $@
# Other releases of clang-format disagree with 14 on details: only 14 judges.
lint-format:
	$(Q)if clang-format --version | grep -q 'version 14\.'; then \
		clang-format --dry-run -Werror $(srcs) $(headers) $(test_srcs); \
	else echo 'lint: clang-format is not release 14: formatting not checked'; fi
lint-man:
	$(Q)mandoc -T lint -W warning $(man_pages)
lint-scripts:
	$(Q)shellcheck $(scripts)
	$(Q)PYTHONPYCACHEPREFIX=build/pycache /usr/bin/python3 -m py_compile tests/run tests/vm/run tests/bench/run tests/bench/feed $(wildcard tests/*/*.py)
check-includes: ## hold the table of who may include whom
	$(Q)tests/check-includes

.PHONY: fmt
fmt: ## format the C files in place (clang-format 14)
	$(Q)clang-format -i $(srcs) $(headers) $(test_srcs)

INSTALL ?= install
# What is installed: mode, file here, place there. `$(call below,DIR,FILES)` puts files of
# some kind, which may be none yet, into one folder.
below = $(foreach f,$(2),644:$(f):$(1)/$(notdir $(f)))
filled := $(patsubst packaging/systemd/%.in,build/%,$(wildcard packaging/systemd/*.in))
installed = \
	755:$(bin)/wscastd:$(SBINDIR)/wscastd \
	755:$(bin)/wscast-worker:$(LIBEXECDIR)/wscast/wscast-worker \
	755:$(bin)/wsctl:$(BINDIR)/wsctl \
	755:$(bin)/wsbench:$(BINDIR)/wsbench \
	755:build/wscast.after-upgrade:$(LIBEXECDIR)/wscast/after-upgrade \
	644:build/wscast.service:$(UNITDIR)/wscast.service \
	644:packaging/systemd/wscast.sysusers:$(SYSUSERSDIR)/wscast.conf \
	644:build/wscast.tmpfiles:$(TMPFILESDIR)/wscast.conf \
	644:packaging/demo/index.html:$(DATADIR)/demo.html \
	$(foreach p,$(man_pages),$(call below,$(MANDIR)/man$(subst .,,$(suffix $(p))),$(p))) \
	$(foreach f,$(wildcard packaging/completions/*.bash),644:$(f):$(BASHDIR)/$(notdir $(f:.bash=))) \
	$(call below,$(ZSHDIR),$(wildcard packaging/completions/_*)) \
	$(call below,$(FISHDIR),$(wildcard packaging/completions/*.fish)) \
	644:README.md:$(DOCDIR)/README.md \
	644:docs/design.md:$(DOCDIR)/design.md \
	$(call below,$(DOCDIR)/examples,$(wildcard packaging/examples/*)) \
	$(call below,$(DOCDIR)/examples/grafana,$(wildcard packaging/grafana/*.json)) \
	$(call below,$(DOCDIR)/examples/prometheus,$(wildcard packaging/prometheus/*.rules.yml))

build/wscast.%: packaging/systemd/wscast.%.in FORCE
	@mkdir -p $(@D)
	$(Q)sed -e 's|@BINDIR@|$(BINDIR)|g; s|@SBINDIR@|$(SBINDIR)|g; s|@SYSCONFDIR@|$(SYSCONFDIR)|g' \
		$< >$@

# The settings file is the administrator's once it is there.
.PHONY: install uninstall
install: all $(filled) ## install under DESTDIR and PREFIX
	$(Q)set -e; for f in $(installed); do \
		to=$${f##*:}; from=$${f#*:}; from=$${from%:*}; \
		$(INSTALL) -D -m $${f%%:*} "$$from" "$(DESTDIR)$$to"; \
	done; \
	[ -e "$(DESTDIR)$(SYSCONFDIR)/wscast/wscast.conf" ] || $(INSTALL) -D -m 644 \
		packaging/wscast.conf "$(DESTDIR)$(SYSCONFDIR)/wscast/wscast.conf"
uninstall: ## remove what install put there, except the settings file
	$(Q)for f in $(installed); do rm -f "$(DESTDIR)$${f##*:}"; done
	-$(Q)rmdir $(addprefix $(DESTDIR),$(LIBEXECDIR)/wscast $(DATADIR) \
		$(addprefix $(DOCDIR),/examples/grafana /examples/prometheus /examples /)) 2>/dev/null

.PHONY: dist deb rpm
dist: ## the source archive of this commit, in build/dist
	$(Q)packaging/make-dist build/dist
deb: ## the Debian packages of this commit, in build/deb
	$(Q)packaging/install-deps build package
	$(Q)packaging/make-deb build/deb
rpm: ## the rpm packages of this commit, in build/rpm
	$(Q)packaging/install-deps build rpm
	$(Q)packaging/make-rpm build/rpm

.PHONY: clean
clean: ## remove build/
	rm -rf build
