/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_TESTS_UNIT_SILENT_VM_H
#define MSB_TESTS_UNIT_SILENT_VM_H

/*
 * msb-vmm with all its devices, in its jail as the engine puts it there, and with a guest
 * that runs `jmp .` for ever: for tests and benches of the VM process itself.  Works with
 * any /dev/kvm, also with one that interprets its guests.
 */

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/args.h"
#include "engine/kvm_jail.h"
#include "sys/child.h"
#include "sys/loop.h"
#include "vmm/trace.h"

#define SILENT_VM_DISK_BYTES (16u << 20)

struct silent_vm_config {
	const char *program; /* msb-vmm */
	enum jail_mode jail;
	int kvm_fd;
	int null_fd; /* for its output; -1 = ours */
	unsigned cpus;
	uint64_t memory_bytes;
	int state_fd, memory_fd; /* of a snapshot, or -1 */
	bool prepared; /* the jail is made before (it is given 10 ms), and its time not counted */
};

struct silent_vm {
	struct child child;
	int control, trace; /* our ends */
	int sockets[4]; /* console, two ports, network: our ends */
	uint64_t spawned_ns; /* when child_spawn() or child_finish() was called */
	uint64_t executed_ns; /* when it returned */
};

/* A file with an ELF kernel: one page at 16 MiB. */
static inline int silent_vm_kernel(void)
{
	static const uint8_t code[] = { 0xeb, 0xfe };
	const uint64_t at = 16u << 20;
	const Elf64_Ehdr head = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
			     EV_CURRENT },
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_entry = at,
		.e_phoff = sizeof(head),
		.e_ehsize = sizeof(head),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 1,
	};
	const Elf64_Phdr segment = {
		.p_type = PT_LOAD,
		.p_flags = PF_R | PF_X,
		.p_offset = 4096,
		.p_vaddr = at,
		.p_paddr = at,
		.p_filesz = sizeof(code),
		.p_memsz = 4096,
		.p_align = 4096,
	};
	int fd = memfd_create("kernel", MFD_CLOEXEC);

	if (fd < 0 || pwrite(fd, &head, sizeof(head), 0) != sizeof(head) ||
	    pwrite(fd, &segment, sizeof(segment), sizeof(head)) != sizeof(segment) ||
	    pwrite(fd, code, sizeof(code), 4096) != sizeof(code) || ftruncate(fd, 8192) < 0)
		perror("kernel");
	return fd;
}

static inline int silent_vm_disk(bool readonly)
{
	auto_close int fd = memfd_create("disk", MFD_CLOEXEC);
	char path[64];

	if (fd < 0 || ftruncate(fd, SILENT_VM_DISK_BYTES) < 0)
		return -1;
	if (!readonly)
		return take_fd(&fd);
	/* Read-only through and through, as msb-vmm wants it. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* Two ends of what the VM gets: [0] is ours, [1] its; @type: of the socket, 0 = a pipe. */
static inline int silent_vm_pair(int type, int fds[2])
{
	return type ? socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) : pipe2(fds, O_CLOEXEC);
}

static inline void silent_vm_stop(struct silent_vm *v)
{
	child_kill(&v->child);
	close_fd(&v->control);
	close_fd(&v->trace);
	for (int i = 0; i < 4; i++)
		close_fd(&v->sockets[i]);
}

/* Return: 0, or a negative errno. */
static inline int silent_vm_start(struct silent_vm *v, const struct silent_vm_config *cfg,
				  struct err *e)
{
	static const char *const ports[] = { "agent.ctl", "agent.bulk" };
	int theirs[9] = { -1, -1, -1, -1, -1, -1, -1, -1, -1 }, n = 0, pair[2], rc;
	const struct timespec jail_made = { .tv_nsec = 10000000 };
	struct child_pending pending = CHILD_PENDING_INIT;
	struct engine_args a = { .n = 0 };
	struct child_spec spec;
	struct kvm_jail jail;

	*v = (struct silent_vm){
		.child = CHILD_INIT, .control = -1, .trace = -1, .sockets = { -1, -1, -1, -1 }
	};
	engine_arg(&a, "msb-vmm");
	engine_arg(&a, "--kvm-fd");
	engine_arg(&a, "%d", engine_arg_fd(&a, cfg->kvm_fd));
	engine_arg(&a, "--cpus");
	engine_arg(&a, "%u", cfg->cpus);
	engine_arg(&a, "--memory");
	engine_arg(&a, "%llu", (unsigned long long)cfg->memory_bytes);
	if (cfg->state_fd >= 0) {
		engine_arg(&a, "--restore-state-fd");
		engine_arg(&a, "%d", engine_arg_fd(&a, cfg->state_fd));
		engine_arg(&a, "--restore-memory-fd");
		engine_arg(&a, "%d", engine_arg_fd(&a, cfg->memory_fd));
	} else {
		theirs[n] = silent_vm_kernel();
		engine_arg(&a, "--kernel-fd");
		engine_arg(&a, "%d", engine_arg_fd(&a, theirs[n++]));
	}
	for (int i = 0; i < 2; i++) {
		theirs[n] = silent_vm_disk(i == 0);
		engine_arg(&a, "--disk");
		engine_arg(&a, "fd=%d,serial=%s", engine_arg_fd(&a, theirs[n++]),
			   i ? "upper" : "image,readonly");
	}
	for (int i = 0; i < 4; i++) {
		rc = silent_vm_pair(SOCK_STREAM, pair);
		v->sockets[i] = rc ? -1 : pair[0];
		theirs[n] = rc ? -1 : pair[1];
		if (i == 0) {
			engine_arg(&a, "--console-fd");
			engine_arg(&a, "%d", engine_arg_fd(&a, theirs[n++]));
		} else if (i < 3) {
			engine_arg(&a, "--port");
			engine_arg(&a, "fd=%d,name=%s", engine_arg_fd(&a, theirs[n++]),
				   ports[i - 1]);
		} else {
			engine_arg(&a, "--net");
			engine_arg(&a, "fd=%d,mac=" ENGINE_NET_MAC, engine_arg_fd(&a, theirs[n++]));
		}
	}
	if (!silent_vm_pair(SOCK_SEQPACKET, pair)) {
		v->control = pair[0];
		theirs[n] = pair[1];
		engine_arg(&a, "--control-fd");
		engine_arg(&a, "%d", engine_arg_fd(&a, theirs[n++]));
	}
	if (!silent_vm_pair(0, pair)) {
		v->trace = pair[0];
		theirs[n] = pair[1];
		engine_arg(&a, "--trace-fd");
		engine_arg(&a, "%d", engine_arg_fd(&a, theirs[n++]));
	}
	engine_args_log(&a, cfg->null_fd >= 0 ? cfg->null_fd : STDERR_FILENO);
	kvm_jail_init(&jail, cfg->jail, cfg->program, cfg->cpus, cfg->memory_bytes + 4096);
	spec = kvm_jail_spec(&jail);
	if (cfg->prepared) {
		rc = child_prepare(&spec, &pending, e);
		nanosleep(&jail_made, NULL);
	}
	v->spawned_ns = loop_now_ns();
	spec.argv = a.argv;
	spec.fds = a.fds;
	spec.n_fds = a.n_fds;
	if (a.failed)
		rc = err_set(e, ENOMEM, "arguments");
	else if (cfg->prepared)
		rc = rc ? rc : child_finish(&pending, a.argv, a.fds, a.n_fds, &v->child, e);
	else
		rc = child_spawn(&spec, &v->child, e);
	v->executed_ns = loop_now_ns();
	for (int i = 0; i < n; i++)
		close_fd(&theirs[i]);
	engine_args_free(&a);
	if (rc)
		silent_vm_stop(v);
	return rc;
}

/*
 * Reads milestones into @ns, by enum trace_point, until all of @cpus run.
 * Return: false if the VM ended before.
 */
static inline bool silent_vm_await(struct silent_vm *v, unsigned cpus, uint64_t ns[TRACE_RUN + 1])
{
	struct trace_stamp s;

	while (cpus) {
		ssize_t n = read(v->trace, &s, sizeof(s));

		if (n < 0 && errno == EINTR)
			continue;
		if (n != (ssize_t)sizeof(s) || s.point > TRACE_RUN)
			return false;
		if (s.point != TRACE_RUN || !s.cpu)
			ns[s.point] = s.ns;
		if (s.point == TRACE_RUN)
			cpus--;
	}
	return true;
}

#endif
