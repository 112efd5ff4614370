# The images that recipes make.  They go to the user's store, and are built only if
# they are not there yet.

.PHONY: demo-image node-image
demo-image: $(MSB_IMAGE) $(PARTS)/recipes ## put the python image together, if it is absent
	$(Q)$(MSB_IMAGE) build python >/dev/null
node-image: $(MSB_IMAGE) $(PARTS)/recipes ## put the node image together, if it is absent
	$(Q)$(MSB_IMAGE) build node >/dev/null
