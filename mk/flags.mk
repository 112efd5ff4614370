# Compiler flags of the host programs.  The guest's are in mk/guest.mk.

CC ?= gcc
CLANG ?= clang-14
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 \
	-Wimplicit-fallthrough -Wundef -Wno-missing-field-initializers -Wno-format-truncation
# Code that turns foreign bytes into numbers may not convert silently.
WARN_STRICT := -Wconversion -Wsign-conversion
ifeq ($(CI),true)
WARN += -Werror
endif

HARDEN := -fstack-protector-strong -fstack-clash-protection -ftrivial-auto-var-init=zero -fPIE
LDHARDEN := -pie -Wl,-z,relro,-z,now
OPT ?= -O2 -g
SAN ?=
ifneq ($(SAN),)
OPT := -O1 -g -fno-omit-frame-pointer -fsanitize=$(SAN) -fno-sanitize-recover=all
LDSAN := -fsanitize=$(SAN)
else
HARDEN += -D_FORTIFY_SOURCE=2
endif

CPPFLAGS_ALL := -iquote src -iquote include -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64
CFLAGS_ALL = -std=gnu17 $(WARN) $(OPT) $(HARDEN) -MMD -MP $(CFLAGS)
LDFLAGS_ALL = $(LDHARDEN) $(LDSAN) $(LDFLAGS)

# Objects depend on this stamp: it changes when a flag does.
FLAGS_STAMP := $(O)/.flags
FLAGS_NOW := $(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS_ALL)
$(FLAGS_STAMP): FORCE
	$(Q)mkdir -p $(@D)
	$(Q)printf '%s\n' '$(FLAGS_NOW)' | cmp -s - $@ || printf '%s\n' '$(FLAGS_NOW)' > $@
.PHONY: FORCE
FORCE:
