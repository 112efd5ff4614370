/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_ENGINE_ENGINE_H
#define MSB_ENGINE_ENGINE_H

/*
 * DOC: The engine contract
 *
 * An engine turns one VM description into one running, jailed VM process.  Every
 * engine gives the guest the same devices (virtio-mmio, named on the kernel command
 * line), so that one kernel, one agent and one image serve all:
 *
 *   virtio-blk, serial "image"   the root image, read-only
 *   virtio-blk, serial "upper"   what the sandbox writes
 *   virtio-console               hvc0 (boot log) and the ports agent.ctl, agent.bulk
 *   virtio-net                   eth0, only if there is a network
 *   virtio-rng
 *
 * Everything the VM process may touch is handed over as an open descriptor, the
 * kernel and the initramfs excepted.  The sockets are connected before the start, so
 * nobody has to wait for a path to appear, and end-of-file says that the VM is gone.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "sys/child.h"
#include "sys/jail.h"

#define ENGINE_DISKS_MAX 2
#define ENGINE_CPUS_MAX 16u
#define ENGINE_MEMORY_MIN (128ull << 20)
#define ENGINE_MEMORY_MAX (1024ull << 30)

enum engine_port { ENGINE_PORT_CTL, ENGINE_PORT_BULK, ENGINE_PORT_COUNT };

struct engine_disk {
	int fd; /* of a raw file; read-write unless readonly */
	bool readonly;
	const char *serial; /* at most 20 bytes (virtio 1.2 §5.2.6.1) */
};

struct engine_vm_desc {
	const char *name; /* for people who look at the list of processes */
	const char *kernel, *initramfs; /* absolute host paths */
	unsigned cpus; /* 1 … ENGINE_CPUS_MAX */
	uint64_t memory_bytes;
	struct engine_disk disks[ENGINE_DISKS_MAX];
	unsigned n_disks;
	int console_fd; /* stream socket: hvc0 */
	int port_fds[ENGINE_PORT_COUNT]; /* stream sockets, by enum engine_port */
	int net_fd; /* stream socket to msb-net; -1 = no NIC */
	int log_fd; /* stdout and stderr of the VM process */
	enum jail_mode jail;
};

struct engine_ops {
	const char *name; /* "tcg" */
	const char *isolation; /* "hardware", "emulated" */

	/* Can this engine run here? If not: the reason and what to do about it. */
	int (*probe)(struct err *e);

	/* One line about the host part, for `msb doctor`, e.g. "QEMU 7.2.22". */
	int (*version)(char *to, size_t size, struct err *e);

	/*
	 * Starts the VM process; descriptors of @desc stay the caller's.  Returns when it
	 * has been executed; its end is seen at out->pidfd.
	 */
	int (*start)(const struct engine_vm_desc *desc, struct child *out, struct err *e);
};

#define ENGINE_NOTICE_MAX 512

/**
 * engine_choose() - the engine for a name: "tcg", "kvm", or "auto" = the best that works here
 * @notice: gets one line to show to the person if "auto" had to take less than hardware
 *          isolation, with the reason; else "".  May be NULL with @size 0.
 *
 * A named engine is that engine or an error: never another one.
 */
int engine_choose(const char *name, const struct engine_ops **out, char *notice, size_t size,
		  struct err *e);

/* All engines of this build, ended by NULL. */
const struct engine_ops *const *engine_list(void);

#endif
