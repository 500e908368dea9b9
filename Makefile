# koresms: build, test, demo, install. `make help` lists the targets.

# --- For packagers: every variable here may be given on the command line -------

# 5.1, 5.2, 5.3, 5.4 or jit (LuaJIT, whose modules have the 5.1 ABI; luajit will do).
LUA_VERSION ?= 5.4

PREFIX ?= /usr/local
DESTDIR ?=

CC ?= cc
CFLAGS ?= -O2 -g
CPPFLAGS ?=
LDFLAGS ?=
# How a loadable module is linked. macOS: -bundle -undefined dynamic_lookup
LIBFLAG ?= -shared
INSTALL ?= install
PKG_CONFIG ?= pkg-config

# The interpreter that runs the specs, and that the installed command names.
LUA ?= $(if $(JIT),luajit,lua$(LUA_VERSION))
# The name under which pkg-config knows this Lua.
LUA_PC ?= $(if $(JIT),luajit,lua$(LUA_VERSION))
LUA_INCLUDE_DIR ?= $(patsubst -I%,%,$(firstword $(shell $(PKG_CONFIG) --cflags-only-I $(LUA_PC) 2>/dev/null)))
LUA_MODULE_DIR ?= $(PREFIX)/share/lua/$(LUA_ABI)
LUA_CMODULE_DIR ?= $(PREFIX)/lib/lua/$(LUA_ABI)
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
BASH_COMPLETIONS ?= $(PREFIX)/share/bash-completion/completions
ZSH_COMPLETIONS ?= $(PREFIX)/share/zsh/site-functions
FISH_COMPLETIONS ?= $(PREFIX)/share/fish/vendor_completions.d

CURL_CFLAGS ?= $(shell $(PKG_CONFIG) --cflags libcurl 2>/dev/null)
CURL_LIBS ?= $(or $(shell $(PKG_CONFIG) --libs libcurl 2>/dev/null),-lcurl)
CRYPTO_CFLAGS ?= $(shell $(PKG_CONFIG) --cflags libcrypto 2>/dev/null)
CRYPTO_LIBS ?= $(or $(shell $(PKG_CONFIG) --libs libcrypto 2>/dev/null),-lcrypto)

# 1 makes every compiler warning an error.
WERROR ?= 0
# Where everything that is built goes.
BUILD ?= build

# --- Nothing below needs to be set ---------------------------------------------

LUA_VERSIONS := 5.1 5.2 5.3 5.4 jit
ifeq ($(LUA_VERSION),luajit)
  override LUA_VERSION := jit
endif
ifneq ($(words $(filter $(LUA_VERSIONS),$(LUA_VERSION))),1)
  $(error LUA_VERSION=$(LUA_VERSION): one of $(LUA_VERSIONS) is expected)
endif
JIT := $(filter jit,$(LUA_VERSION))
LUA_ABI := $(if $(JIT),5.1,$(LUA_VERSION))

# Defined, these choose the branches for libraries and systems that are not here.
OLD_FLAGS := -DKSMS_CURL_VERSION=0x074400 -DKSMS_HAVE_EVP_MAC=0 -DKSMS_HAVE_SOCK_CLOEXEC=0 \
  -DKSMS_CLOCK=CLOCK_MONOTONIC

WARNINGS := -pedantic -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes \
  -Wmissing-prototypes -Wwrite-strings -Wvla -Wformat=2 -Wundef
STD := -std=c99 -fPIC -fvisibility=hidden
STRICT = $(if $(filter 1,$(WERROR)),-Werror)
# The headers of Lua and of the libraries are not ours to warn about.
INCLUDES = -Isrc $(addprefix -isystem ,$(LUA_INCLUDE_DIR))
COMPILE = $(CC) $(STD) $(WARNINGS) $(STRICT) $(INCLUDES) $(CURL_CFLAGS) $(CRYPTO_CFLAGS) \
  $(CPPFLAGS) $(CFLAGS)

CORE := core e164 encode jwt random address request proxy post head reader reader_lua buffer module signal system process
CURL := engine request_lua connection authorities descriptors wire post encode head reader buffer module
SOURCES := $(addprefix src/,$(addsuffix .c,$(sort $(CORE) $(CURL))))

OUT := $(BUILD)/$(LUA_VERSION)
OBJ := $(OUT)/obj
CORE_OBJECTS := $(CORE:%=$(OBJ)/%.o)
CURL_OBJECTS := $(CURL:%=$(OBJ)/%.o)
MODULES := $(OUT)/koresms/core.so $(OUT)/koresms/curl.so

# The databases of a store: each a module of its own, built where pkg-config knows its library.
SQLITE := $(if $(shell $(PKG_CONFIG) --exists sqlite3 2>/dev/null && echo 1),sqlite sqlite_rows module)
POSTGRES := $(if $(shell $(PKG_CONFIG) --exists libpq 2>/dev/null && echo 1),postgres postgres_run postgres_values module)
STORE_OBJECTS := $(patsubst %,$(OBJ)/%.o,$(SQLITE) $(POSTGRES))
SOURCES += $(patsubst %,src/%.c,$(filter-out module,$(SQLITE) $(POSTGRES)))
MODULES += $(patsubst %,$(OUT)/koresms/%.so,$(firstword $(SQLITE)) $(firstword $(POSTGRES)))
INCLUDES += $(if $(SQLITE)$(POSTGRES),$(addprefix -isystem ,$(patsubst -I%,%,$(shell \
  $(PKG_CONFIG) --cflags-only-I $(if $(SQLITE),sqlite3) $(if $(POSTGRES),libpq)))))

LUA_FILES = $(shell cd lua && find . -type f -name '*.lua')
SANDBOX_FILES = $(shell cd sandbox && find . -type f)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.PHONY: all build-all test specs specs-old lint lint-lua lint-gcc lint-clang lint-cppcheck \
  lint-format demo bench soak docs install uninstall clean setup help FORCE

all: $(MODULES)

help:
	@echo 'make [LUA_VERSION=5.1|5.2|5.3|5.4|jit]   build the two C modules into $(BUILD)/'
	@echo 'make build-all                           build them for every Lua'
	@echo 'make demo                                send one message to the local sandbox'
	@echo 'make demo-nginx                          run examples/nginx on the sandbox'
	@echo 'make test                                lint, and all specs on Lua 5.4 and LuaJIT'
	@echo 'make specs [LUA_VERSION=...] [SPEC=...]  the specs on one Lua'
	@echo 'make lint                                luacheck, gcc, clang, cppcheck, clang-format'
	@echo 'make faults                              the whole fault suite, and 20,000 random sequences'
	@echo 'make sanitize                            memory checks: ASan, UBSan, valgrind'
	@echo 'make memory                              memory that fails or is collected, at every place'
	@echo 'make fuzz [SECONDS=n]                    libFuzzer on the reader of replies'
	@echo 'make model                               the models of the store, by spin; MODEL=long'
	@echo 'make soak [MINUTES=n]                    faults, restarts and failovers for so long'
	@echo 'make torture                             kills, storms and models at length: about an hour'
	@echo 'make bench                               measurements'
	@echo 'make bench-store                         what a store costs'
	@echo 'make bench-nginx                         what a message costs inside nginx'
	@echo 'make docs                                API pages into $(BUILD)/docs'
	@echo 'make dist                                a source archive of the last commit'
	@echo 'make rocks URL=...                       rockspecs whose source is that archive'
	@echo 'make deb                                 Debian packages, into $(BUILD)/deb'
	@echo 'make share                               the man page and the completions anew'
	@echo 'make install | uninstall                 PREFIX, DESTDIR and LUA_VERSION apply'
	@echo 'make setup                               install on Debian what make test needs'
	@echo 'make clean                               remove $(BUILD)/'

build-all:
	@for v in $(LUA_VERSIONS); do $(MAKE) --no-print-directory LUA_VERSION=$$v all || exit 1; done

$(OUT)/koresms/core.so: $(CORE_OBJECTS)
	@mkdir -p $(@D)
	$(CC) $(LIBFLAG) $(CFLAGS) $(LDFLAGS) -o $@ $(CORE_OBJECTS) $(CRYPTO_LIBS)

$(OUT)/koresms/curl.so: $(CURL_OBJECTS)
	@mkdir -p $(@D)
	$(CC) $(LIBFLAG) $(CFLAGS) $(LDFLAGS) -o $@ $(CURL_OBJECTS) $(CURL_LIBS)

$(OUT)/koresms/sqlite.so: $(SQLITE:%=$(OBJ)/%.o)
	@mkdir -p $(@D)
	$(CC) $(LIBFLAG) $(CFLAGS) $(LDFLAGS) -o $@ $(SQLITE:%=$(OBJ)/%.o) $(shell $(PKG_CONFIG) --libs sqlite3 2>/dev/null)

$(OUT)/koresms/postgres.so: $(POSTGRES:%=$(OBJ)/%.o)
	@mkdir -p $(@D)
	$(CC) $(LIBFLAG) $(CFLAGS) $(LDFLAGS) -o $@ $(POSTGRES:%=$(OBJ)/%.o) $(shell $(PKG_CONFIG) --libs libpq 2>/dev/null)

$(OBJ)/%.o: src/%.c $(OBJ)/flags
	$(COMPILE) -MMD -MP -c -o $@ $<

# Several may run at once in one tree where all is built.
MAKE_PID := $(shell echo $$PPID)

# Rewritten only where the compiler call differs from the last one, so that changed
# flags rebuild everything and unchanged ones nothing.
$(OBJ)/flags: FORCE
	$(shell mkdir -p $(@D))$(file >$@.$(MAKE_PID),$(COMPILE))
	@if cmp -s $@.$(MAKE_PID) $@; then rm $@.$(MAKE_PID); else \
	  PKG_CONFIG='$(PKG_CONFIG)' sh tools/headers.sh $(LUA_VERSION) $$(cat $@.$(MAKE_PID)) && mv $@.$(MAKE_PID) $@; fi

-include $(CORE_OBJECTS:.o=.d) $(CURL_OBJECTS:.o=.d) $(STORE_OBJECTS:.o=.d)

# --- Test, lint, demo ----------------------------------------------------------

setup:
	@sh tools/setup.sh test

demo:
	@sh tools/setup.sh demo
	@$(MAKE) --no-print-directory all
	@LUA=$(LUA) sh tools/demo.sh

test:
	@sh tools/setup.sh test
	@MAKE='$(MAKE)' sh tools/test.sh

SPEC ?= spec
specs: all $(if $(filter-out %_spec.lua,$(SPEC))$(filter %memory_spec.lua %allocator_spec.lua,$(SPEC)),memory-host)
	KSMS_BUILD=$(BUILD) $(LUA) "$$(command -v busted)" $(BUSTED_FLAGS) $(SPEC)

# Some specs where libraries and system are taken for older ones than they are.
specs-old:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/old CPPFLAGS='$(CPPFLAGS) $(OLD_FLAGS)' \
	  SPEC='spec/jwt_spec.lua $(wildcard spec/client*_spec.lua spec/stream*_spec.lua)' specs

lint: lint-lua lint-gcc lint-clang lint-cppcheck lint-format

lint-lua:
	luacheck --quiet --no-color . .busted bin/koresms

# -O2, because some warnings come from the optimiser only.
lint-gcc lint-clang: lint-%:
	@for v in $(LUA_VERSIONS); do \
	  $(MAKE) --no-print-directory -s LUA_VERSION=$$v LINT_CC=$* lint-c || exit 1; \
	done
	@$(MAKE) --no-print-directory -s LUA_VERSION=5.4 LINT_CC=$* CPPFLAGS='$(OLD_FLAGS)' lint-c
	@$(MAKE) --no-print-directory -s LUA_VERSION=5.4 LINT_CC=$* STD='-std=c11 -fPIC' lint-c

.PHONY: lint-c
lint-c: CC = $(LINT_CC)
lint-c: WERROR = 1
lint-c:
	@echo "$(CC), Lua $(LUA_VERSION): $(words $(SOURCES)) files $(CPPFLAGS)"
	@for f in $(SOURCES) spec/support/lua_host.c; do $(COMPILE) -O2 -c -o /dev/null $$f || exit 1; done

# cppcheck reads no header of the system: what the sources ask of those is answered here.
lint-cppcheck:
	cppcheck --quiet --error-exitcode=1 --std=c99 --enable=warning,performance,portability \
	  --inline-suppr --suppress=missingIncludeSystem '-D__has_include(x)=1' \
	  -DLIBCURL_VERSION_NUM=0x080000 -DOPENSSL_VERSION_NUMBER=0x30000000L -Isrc $(SOURCES)

# `clang-format -i src/*.[ch]` mends what it finds.
lint-format:
	clang-format --dry-run --Werror $(wildcard src/*.[ch])

BENCH_PROGRAMS := $(addprefix $(BUILD)/bench/,easy multi socket_action measure)

$(BUILD)/bench/%: bench/%.c bench/post.h
	@mkdir -p $(@D)
	$(CC) -std=c99 $(WARNINGS) $(STRICT) $(CURL_CFLAGS) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) \
	  -o $@ $< $(CURL_LIBS)

bench: all $(BENCH_PROGRAMS)
	@if command -v luajit >/dev/null && $(PKG_CONFIG) --exists luajit; then \
	  $(MAKE) --no-print-directory -s LUA_VERSION=jit all; fi
	@LUA=$(LUA) BUILD=$(BUILD) bench/run.sh

# The library in service, for so many minutes; nginx runs LuaJIT.
MINUTES ?= 10
soak: all
	@$(MAKE) --no-print-directory -s LUA_VERSION=jit all
	SOAK_SECONDS=$$(($(MINUTES) * 60)) $(MAKE) --no-print-directory specs SPEC=spec/soak_spec.lua

docs:
	ldoc --dir $(BUILD)/docs --config config.ld .

# --- Memory --------------------------------------------------------------------

.PHONY: memory memory-host fuzz

# An interpreter whose allocators fail when a spec says so, and modules that allocate through
# it; see spec/support/lua_host.c. All of it is built with the sanitizers.
HOST_OUT := $(BUILD)/memory/$(LUA_VERSION)
SANITIZE := -fsanitize=address,undefined
WRAP := -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=free

memory-host: $(HOST_OUT)/lua_host
	@$(MAKE) --no-print-directory -s BUILD=$(BUILD)/memory LDFLAGS='$(SANITIZE) -Wl,-z,nodelete $(WRAP)' \
	  CFLAGS='-O1 -g $(SANITIZE) -fno-sanitize-recover=undefined -fno-omit-frame-pointer' all

$(HOST_OUT)/lua_host: spec/support/lua_host.c
	@mkdir -p $(@D)
	$(CC) -std=c99 $(WARNINGS) $(STRICT) -O1 -g $(SANITIZE) -rdynamic $(CURL_CFLAGS) $(CRYPTO_CFLAGS) \
	  $(addprefix -isystem ,$(LUA_INCLUDE_DIR)) -o $@ $< \
	  $(shell $(PKG_CONFIG) --libs $(LUA_PC) 2>/dev/null) $(CURL_LIBS) $(CRYPTO_LIBS) \
	  $(if $(SQLITE),-DKSMS_SQLITE $(shell $(PKG_CONFIG) --cflags --libs sqlite3 2>/dev/null))

# The memory passes, on one Lua; every n of the failing allocators.
memory: all memory-host
	@MEMORY=long $(MAKE) --no-print-directory specs SPEC=spec/memory_spec.lua

# The reader of replies under libFuzzer, from the kept corpus on; what is new in it stays in
# $(BUILD)/fuzz/corpus.
FUZZ_CC ?= clang
FUZZ_FLAGS ?= -print_final_stats=1
SECONDS ?= 60
fuzz:
	@mkdir -p $(BUILD)/fuzz/corpus
	$(FUZZ_CC) -std=c99 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
	  -DKSMS_HEAD_MAX=2048u -Isrc -o $(BUILD)/fuzz/reader_fuzz spec/fuzz/reader_fuzz.c src/head.c src/buffer.c
	$(BUILD)/fuzz/reader_fuzz $(FUZZ_FLAGS) -dict=spec/fuzz/reader.dict -max_len=4096 \
	  -max_total_time=$(SECONDS) -artifact_prefix=$(BUILD)/fuzz/ $(BUILD)/fuzz/corpus spec/fuzz/corpus

# --- Install -------------------------------------------------------------------

.PHONY: share

# The man page and the completions, made anew from the texts of the command's own help. They are
# committed, so that an installation needs no tool; a spec compares them.
share: all
	@KSMS_BUILD=$(BUILD) $(LUA) tools/man.lua > share/man/koresms.1
	@for s in bash:koresms.bash zsh:_koresms fish:koresms.fish; do \
	  $(LUA) bin/koresms completion $${s%%:*} > share/completions/$${s#*:} || exit 1; done

install: all
	@$(if $(DESTDIR)$(filter file default undefined,$(origin LUA)),:,command -v "$(LUA)" >/dev/null) || { \
	  echo "make install: LUA=$(LUA): there is no such interpreter here" >&2; exit 1; }
	@set -e; for f in $(LUA_FILES); do \
	  d="$(DESTDIR)$(LUA_MODULE_DIR)/$$(dirname $$f)"; mkdir -p "$$d"; \
	  $(INSTALL) -m 644 lua/$$f "$$d"; done
	@set -e; for f in $(SANDBOX_FILES); do \
	  d="$(DESTDIR)$(LUA_MODULE_DIR)/koresms/sandbox/$$(dirname $$f)"; mkdir -p "$$d"; \
	  $(INSTALL) -m 644 sandbox/$$f "$$d"; done
	@mkdir -p "$(DESTDIR)$(LUA_CMODULE_DIR)/koresms" "$(DESTDIR)$(BINDIR)"
	$(INSTALL) -m 755 $(MODULES) "$(DESTDIR)$(LUA_CMODULE_DIR)/koresms"
	@there=$(if $(filter file default undefined,$(origin LUA)),$$(sed -n '1s/^#!//p' "$(DESTDIR)$(BINDIR)/koresms" 2>/dev/null)); \
	  lua=$${there:-$$(command -v $(LUA) || echo '/usr/bin/env $(LUA)')}; \
	  sed "1s|.*|#!$$lua|" bin/koresms > $(OUT)/koresms.bin
	$(INSTALL) -m 755 $(OUT)/koresms.bin "$(DESTDIR)$(BINDIR)/koresms"
	@mkdir -p "$(DESTDIR)$(MANDIR)/man1" "$(DESTDIR)$(BASH_COMPLETIONS)" \
	  "$(DESTDIR)$(ZSH_COMPLETIONS)" "$(DESTDIR)$(FISH_COMPLETIONS)"
	$(INSTALL) -m 644 share/man/koresms.1 "$(DESTDIR)$(MANDIR)/man1"
	$(INSTALL) -m 644 share/completions/koresms.bash "$(DESTDIR)$(BASH_COMPLETIONS)/koresms"
	$(INSTALL) -m 644 share/completions/_koresms "$(DESTDIR)$(ZSH_COMPLETIONS)"
	$(INSTALL) -m 644 share/completions/koresms.fish "$(DESTDIR)$(FISH_COMPLETIONS)"
	@sh tools/installed.sh "$(LUA_VERSION)" "$(if $(DESTDIR),,$(LUA))" "$(DESTDIR)$(BINDIR)/koresms" \
	  "$(DESTDIR)$(LUA_MODULE_DIR)/koresms" "$(DESTDIR)$(LUA_CMODULE_DIR)/koresms"

uninstall:
	rm -rf "$(DESTDIR)$(LUA_MODULE_DIR)/koresms" "$(DESTDIR)$(LUA_CMODULE_DIR)/koresms"
	rm -f "$(DESTDIR)$(LUA_MODULE_DIR)/resty/koresms.lua" "$(DESTDIR)$(BINDIR)/koresms"
	rm -f "$(DESTDIR)$(MANDIR)/man1/koresms.1" "$(DESTDIR)$(BASH_COMPLETIONS)/koresms" \
	  "$(DESTDIR)$(ZSH_COMPLETIONS)/_koresms" "$(DESTDIR)$(FISH_COMPLETIONS)/koresms.fish"

clean:
	rm -rf $(BUILD)

# --- Release -------------------------------------------------------------------

.PHONY: dist rocks

VERSION := $(shell sed -n 's/^\#define KSMS_VERSION "\(.*\)"/\1/p' src/koresms.h)
ARCHIVE := $(BUILD)/koresms-$(VERSION).tar.gz

# A source archive of the last commit: the same bytes wherever and whenever it is made.
dist:
	@changes=$$(git status --porcelain | cut -c4- | tr '\n' ' '); if [ -n "$$changes" ]; then \
	  echo "make dist: there are changes that are not committed: $$changes" >&2; exit 1; fi
	@mkdir -p $(BUILD)
	@git -c tar.umask=0022 archive --format=tar --prefix=koresms-$(VERSION)/ HEAD \
	  | gzip -9 -n > $(ARCHIVE).new && mv $(ARCHIVE).new $(ARCHIVE)
	@sha256sum $(ARCHIVE)

# Rockspecs of a release, whose source is the archive at an address: make rocks URL=https://...
rocks:
	@[ -n "$(URL)" ] || { echo 'say where the archive of `make dist` will be: make rocks URL=https://...' >&2; exit 1; }
	@mkdir -p $(BUILD)
	@for name in koresms koresms-sqlite koresms-postgres; do \
	  $(LUA) tools/rocks.lua $$name-scm-1.rockspec $(VERSION) "$(URL)" \
	    > $(BUILD)/$$name-$(VERSION)-1.rockspec || exit 1; done

.PHONY: deb

# Debian packages of the last commit, into $(BUILD)/deb. Where lintian is installed, it has the last
# word. The project has no mail address: whoever uploads the packages puts theirs into
# debian/control and debian/changelog.
deb:
	@dpkg-checkbuilddeps debian/control >/dev/null 2>&1 && command -v dpkg-buildpackage >/dev/null || { \
	  echo 'make deb: packages are missing: sudo apt-get install dpkg-dev && sudo apt-get build-dep ./' >&2; exit 1; }
	@rm -rf $(BUILD)/deb && mkdir -p $(BUILD)/deb/koresms-$(VERSION)
	@git archive HEAD | tar -x -C $(BUILD)/deb/koresms-$(VERSION)
	@cd $(BUILD)/deb/koresms-$(VERSION) && env -u MAKEFLAGS -u MAKELEVEL dpkg-buildpackage -b -us -uc
	@if command -v lintian >/dev/null; then \
	  lintian --allow-root --fail-on error,warning \
	    --suppress-tags bogus-mail-host,bogus-mail-host-in-debian-changelog $(BUILD)/deb/*.changes; fi
	@rm -f $(BUILD)/deb/*-dbgsym_*.deb
	@echo 'to install:  sudo apt-get install'; ls $(BUILD)/deb/*.deb | sed 's|^|  ./|'

# --- nginx ---------------------------------------------------------------------

.PHONY: demo-nginx bench-nginx

# What nginx loads is built for LuaJIT.
demo-nginx:
	@sh tools/setup.sh nginx
	@$(MAKE) --no-print-directory all
	@$(MAKE) --no-print-directory LUA_VERSION=jit all
	@LUA=$(LUA) BUILD=$(BUILD) sh tools/demo-nginx.sh

bench-nginx:
	@$(MAKE) --no-print-directory LUA_VERSION=jit all
	@KSMS_BUILD=$(BUILD) luajit bench/openresty.lua

# --- Faults and memory ---------------------------------------------------------

.PHONY: faults sanitize

# The whole fault suite: each scenario at each place, errors at each place, and 20,000 random
# sequences.
faults: all memory-host
	@FAULTS=$(or $(FAULTS),long) KSMS_BUILD=$(BUILD) $(LUA) "$$(command -v busted)" \
	  $(BUSTED_FLAGS) $(sort $(wildcard spec/faults_*_spec.lua spec/broken_off*_spec.lua) \
	  spec/interrupt_spec.lua spec/abandoned_spec.lua spec/allocator_spec.lua)

sanitize:
	@BUILD=$(BUILD) sh tools/sanitize.sh

# --- Models ---------------------------------------------------------------------

.PHONY: model

# The protocol of the store and its quota, checked whole by spin; MODEL=long goes further.
model:
	@MODEL=$(MODEL) sh spec/model/check.sh

.PHONY: bench-store

bench-store: all $(BUILD)/bench/measure
	@LUA=$(LUA) KSMS_BUILD=$(BUILD) bench/store.sh

.PHONY: torture

# What takes too long for `make test`: about an hour. A failure tells its seed; SEED plays it again.
torture: all
	@MODEL=long sh spec/model/check.sh
	@STORE_EVERY_LUA=1 STORE_KILLS=200 STORE_STEPS=all STORE_QUOTA=245 STORE_ROWS=1000000 \
	  $(MAKE) --no-print-directory specs SPEC='spec/store_kill_spec.lua spec/store_death_spec.lua \
	  spec/store_quota_spec.lua spec/store_plan_spec.lua'
	@STORE_SEQUENCES=10000 $(MAKE) --no-print-directory specs SPEC=spec/store_model_spec.lua
	@for seed in 1 2 3; do STORE_EVERY_LUA=1 STORE_STORM=60 SEED=$$seed \
	  $(MAKE) --no-print-directory specs SPEC=spec/store_storm_spec.lua || exit 1; done
