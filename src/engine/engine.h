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
 *   virtio-console               hvc0 (boot log) and the ports agent.ctl, agent.bulk, and
 *                                agent.fuse if there are volumes
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

enum engine_port { ENGINE_PORT_CTL, ENGINE_PORT_BULK, ENGINE_PORT_FUSE, ENGINE_PORT_COUNT };

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
	int port_fds[ENGINE_PORT_COUNT]; /* stream sockets, by enum engine_port; -1 = none */
	int net_fd; /* stream socket to msb-net; -1 = no NIC */
	int log_fd; /* stdout and stderr of the VM process */
	/*
	 * SOCK_SEQPACKET socket for what the engine is asked to do with the running VM; the
	 * supervisor keeps the other end.  -1 = nothing will be asked.
	 */
	int control_fd;
	enum jail_mode jail;
	struct engine_cell *cell; /* of engine_prepare(), or NULL */
};

/*
 * A machine as two files (docs/snapshots.md): regular files or memfds.  For writing: empty
 * and writable.  For restoring: memory_fd read-only, or sealed against writing.
 */
struct engine_snapshot {
	int state_fd, memory_fd;
};

#define ENGINE_TEXT_MAX 512

enum engine_event_kind { ENGINE_EVENT_DONE, ENGINE_EVENT_ENDED };

/* What an engine tells over the control socket. */
struct engine_event {
	enum engine_event_kind kind;
	uint32_t id; /* DONE: of the request */
	int code; /* DONE: 0 or a positive errno; ENDED: 0 if the guest wanted it, else EIO */
	char text[ENGINE_TEXT_MAX]; /* the reason, one line; "" for none */
};

/* A VM process in its jail, made ahead, that does not know its VM yet. */
struct engine_cell;

struct engine_ops {
	const char *name; /* "tcg" */
	const char *isolation; /* "hardware", "emulated" */

	/* Can this engine run here? If not: the reason and what to do about it. */
	int (*probe)(struct err *e);

	/* One line about the host part, for `msb doctor`, e.g. "QEMU 7.2.22". */
	int (*version)(char *to, size_t size, struct err *e);

	/*
	 * Of engine_prepare(), and of the end of a cell that is not used; NULL for an engine
	 * that makes the jail when it starts the VM.
	 */
	int (*prepare)(const struct engine_vm_desc *desc, uint64_t disk_bytes,
		       struct engine_cell **out, struct err *e);
	void (*abandon)(struct engine_cell *cell);

	/*
	 * Starts the VM process; descriptors of @desc stay the caller's, desc->cell is used
	 * up, also by a failure.  Returns when it has been executed; its end is seen at
	 * out->pidfd.
	 */
	int (*start)(const struct engine_vm_desc *desc, struct child *out, struct err *e);

	/*
	 * As start, but the VM goes on where the snapshot was taken: kernel and initramfs of
	 * @desc are not used, all else has to be as it was then, the content of the disks
	 * included.  A snapshot that does not fit ends the VM process with the reason.  The
	 * guest's clock stood still; the agent takes a new HELLO on each port.
	 */
	int (*restore)(const struct engine_vm_desc *desc, const struct engine_snapshot *from,
		       struct child *out, struct err *e);

	/*
	 * Requests over @control, the supervisor's end of desc->control_fd.  They only send,
	 * and never block: -EAGAIN if the VM process does not read.  The answer is an event
	 * with the same @id, which is the caller's choice.
	 *
	 * pause: afterwards nothing of the VM changes, neither registers, memory nor disks.
	 * resume: it goes on.  snapshot: of a paused VM; the descriptors stay the caller's,
	 * who syncs the files if they are to outlive a power loss.  The network and the
	 * agent's sockets are not part of a snapshot.
	 */
	int (*pause)(int control, uint32_t id, struct err *e);
	int (*resume)(int control, uint32_t id, struct err *e);
	int (*snapshot)(int control, uint32_t id, const struct engine_snapshot *to, struct err *e);

	/*
	 * The next event, without blocking: call it when @control is readable.  Return: 1 and
	 * *@out; 0 = none yet; -EPIPE = the VM process is gone; another negative errno if
	 * what came is no event, after which the VM process is not to be trusted.
	 */
	int (*event)(int control, struct engine_event *out, struct err *e);
};

/**
 * engine_prepare() - have the jail of a VM process made while the caller opens disks and sockets
 * @desc:       cpus, memory_bytes, jail, and whether there will be a control_fd (not -1);
 *              nothing else of it is looked at
 * @disk_bytes: size of the largest disk that the VM will write to
 * @out:        for desc->cell of start or restore; NULL if the engine has no use for one
 *
 * Returns before the jail is made.  What fails there is told by start or restore.
 */
int engine_prepare(const struct engine_ops *ops, const struct engine_vm_desc *desc,
		   uint64_t disk_bytes, struct engine_cell **out, struct err *e);

/* Ends a cell that no start or restore has used.  NULL is harmless. */
void engine_abandon(const struct engine_ops *ops, struct engine_cell *cell);

/*
 * Waits until request @id is answered, at most @timeout_ms: for callers without a loop.
 * Return: 0; the request's error; -ETIMEDOUT; -EPIPE if the VM ended meanwhile, with the
 * reason.
 */
int engine_await(const struct engine_ops *ops, int control, uint32_t id, unsigned timeout_ms,
		 struct err *e);

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
