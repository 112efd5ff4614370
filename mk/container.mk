# SPDX-License-Identifier: Apache-2.0
# The server in a container (Containerfile; docs/server.md, "In a container").

CONTAINER_CONTEXT := $(O)/container/context
PODMAN ?= podman
CONTAINER_NAME ?= microsandbox

.PHONY: container container-context check-container container-parts
# What is built is installed there, so that the image's first stage has nothing to compile.
container-context: all kernel
	$(Q)rm -rf $(CONTAINER_CONTEXT)
	$(Q)mkdir -p $(CONTAINER_CONTEXT)/tools
	$(Q)$(MAKE) --no-print-directory install DESTDIR=$(abspath $(CONTAINER_CONTEXT))/programs PREFIX=/usr > /dev/null
	$(Q)cp tools/container-programs $(CONTAINER_CONTEXT)/tools/
container: container-context ## build the container image with podman, of what is built here (BASE= another base image)
	$(Q)$(PODMAN) build -t $(CONTAINER_NAME) $(if $(BASE),--build-arg BASE=$(BASE)) -f Containerfile $(CONTAINER_CONTEXT)
check-container: container-parts demo-image ## only the server in a container (needs podman, and root)
	$(Q)O=$(O) tools/run-tests --e2e tests/e2e -- -k test_server_container $(ARGS)

# What the tests build the image on, made of Debian packages: no registry is asked.
CONTAINER_BASE := $(O)/container/base.done
$(CONTAINER_BASE): tests/container/base.recipe | $(MSB_IMAGE)
	$(call say,IMAGE,$<)
	$(Q)mkdir -p $(@D)
	$(Q)MICROSANDBOX_HOME=$(abspath $(O))/container $(MSB_IMAGE) build --quiet --force $< > /dev/null && touch $@
container-parts: container-context $(CONTAINER_BASE)
