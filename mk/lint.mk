# Checks of the text itself.

FORMAT_SRC = $(wildcard src/*/*.[ch] src/*/*/*.[ch] guest/agent/*.[ch] tests/unit/*.[ch] tests/fuzz/*.c include/*.h sdk/c/*/*.[ch])

.PHONY: lint check-layers format check-format check-protocol-doc check-sandboxfile-doc sandboxfile-doc
lint: check-layers check-format check-protocol-doc check-sandboxfile-doc ## layers, formatting, and what is described elsewhere
check-layers: ## does every file include only from the floors beneath it?
	$(Q)tools/check-layers
check-protocol-doc: ## does docs/agent-protocol.md have every frame type?
	$(Q)tools/check-protocol-doc
check-sandboxfile-doc: $(MSB) ## are the Sandboxfile's schema and documentation those of its table?
	$(Q)tools/sandboxfile-doc --check $(MSB)
sandboxfile-doc: $(MSB) ## write api/sandboxfile.schema.json and the tables of docs/sandboxfile.md
	$(Q)tools/sandboxfile-doc $(MSB)
format: ## rewrite the sources in the project's format
	$(Q)clang-format-14 -i $(FORMAT_SRC)
check-format: ## is everything formatted?
	$(Q)clang-format-14 --dry-run -Werror $(FORMAT_SRC)
