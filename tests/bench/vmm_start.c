/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts msb-vmm again and again, as the engine does, and prints when it reached which
 * milestone: one line a start, nanoseconds since child_spawn() was called, or child_finish()
 * with a jail made ahead.  What the columns are is the first line; bench_vmm.py makes a
 * table of it.
 *
 *   vmm_start MSB-VMM cold|restore full|ahead|reduced STARTS MEMORY-MIB CPUS
 */
#include <stdlib.h>

#include "engine/engine.h"
#include "engine/kvm_control.h"
#include "unit/silent_vm.h"

static const struct engine_ops control_ops = { .event = kvm_control_event };

static int fail(const char *what, const struct err *e)
{
	fprintf(stderr, "vmm_start: %s: %s\n", what, err_text(e));
	return 1;
}

/* Freezes a new machine into two memfds, the memory sealed as a template's. */
static int make_snapshot(struct silent_vm_config *cfg)
{
	struct engine_snapshot to = {
		.state_fd = memfd_create("state", MFD_CLOEXEC),
		.memory_fd = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING),
	};
	uint64_t ns[TRACE_RUN + 1] = { 0 };
	struct err e = ERR_INIT;
	struct silent_vm v;

	if (silent_vm_start(&v, cfg, &e))
		return fail("start", &e);
	if (!silent_vm_await(&v, cfg->cpus, ns) || kvm_control_pause(v.control, 1, &e) ||
	    engine_await(&control_ops, v.control, 1, 10000, &e) ||
	    kvm_control_snapshot(v.control, 2, &to, &e) ||
	    engine_await(&control_ops, v.control, 2, 60000, &e))
		return fail("snapshot", &e);
	silent_vm_stop(&v);
	if (fcntl(to.memory_fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) < 0)
		return fail("seal", NULL);
	cfg->state_fd = to.state_fd;
	cfg->memory_fd = to.memory_fd;
	return 0;
}

static int start_once(const struct silent_vm_config *cfg)
{
	uint64_t ns[TRACE_RUN + 1] = { 0 };
	struct err e = ERR_INIT;
	struct silent_vm v;

	if (silent_vm_start(&v, cfg, &e))
		return fail("start", &e);
	if (!silent_vm_await(&v, cfg->cpus, ns))
		return fail("the VM ended before it ran", NULL);
	silent_vm_stop(&v);
	for (int i = 0; i <= TRACE_RUN; i++)
		printf("%s%llu", i ? " " : "", (unsigned long long)(ns[i] - v.spawned_ns));
	printf(" %llu\n", (unsigned long long)(v.executed_ns - v.spawned_ns));
	return 0;
}

int main(int argc, char **argv)
{
	struct silent_vm_config cfg = { .null_fd = -1, .state_fd = -1, .memory_fd = -1 };

	if (argc != 7) {
		fprintf(stderr, "usage: vmm_start MSB-VMM cold|restore full|ahead|reduced STARTS "
				"MEMORY-MIB CPUS\n");
		return 2;
	}
	cfg.program = argv[1];
	cfg.jail = strcmp(argv[3], "reduced") ? JAIL_FULL : JAIL_REDUCED;
	cfg.prepared = !strcmp(argv[3], "ahead");
	cfg.memory_bytes = (uint64_t)atol(argv[5]) << 20;
	cfg.cpus = (unsigned)atoi(argv[6]);
	cfg.kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (cfg.kvm_fd < 0) {
		perror("/dev/kvm");
		return 77;
	}
	if (!strcmp(argv[2], "restore") && make_snapshot(&cfg))
		return 1;
	printf("main vm devices mapped memory vcpus loaded threads confined run spawned\n");
	for (int i = atoi(argv[4]); i > 0; i--)
		if (start_once(&cfg))
			return 1;
	return 0;
}
