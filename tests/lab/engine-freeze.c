/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine-freeze: the kvm engine's contract as a supervisor uses it, jail included
 *
 *   engine-freeze KERNEL INITRAMFS DISK
 *
 * INITRAMFS is that of freeze-load.c.  Starts it, freezes it, restores it, lets it work on;
 * then offers a memory file that could be written, which has to be refused.  Prints "ok".
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/kvm.h"

#define FREEZE_TIMEOUT_MS 90000u /* a hang gets there */
#define FREEZE_TEXT_MAX (64u << 10)

/* A running VM and our ends of its sockets. */
struct freeze_vm {
	struct child child;
	int console, control, ports[ENGINE_PORT_COUNT];
};

static void freeze_die(const char *what, const struct err *e)
{
	fprintf(stderr, "engine-freeze: %s: %s\n", what, err_text(e));
	exit(1);
}

static void freeze_pair(int type, int *ours, int *theirs)
{
	int sv[2];

	if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, sv) < 0) {
		perror("socketpair");
		exit(1);
	}
	*ours = sv[0];
	*theirs = sv[1];
}

/* A VM that boots, or one that goes on where @from was taken. */
static void freeze_start(struct freeze_vm *v, char **argv, const struct engine_snapshot *from)
{
	struct engine_vm_desc d = {
		.name = "freeze",
		.kernel = argv[1],
		.initramfs = argv[2],
		.cpus = 2,
		.memory_bytes = ENGINE_MEMORY_MIN,
		.disks = { { open(argv[3], O_RDWR | O_CLOEXEC), false, "load" } },
		.n_disks = 1,
		.net_fd = -1,
		.log_fd = STDERR_FILENO,
		.jail = JAIL_FULL,
	};
	struct err e = ERR_INIT;
	int rc;

	freeze_pair(SOCK_STREAM, &v->console, &d.console_fd);
	freeze_pair(SOCK_SEQPACKET, &v->control, &d.control_fd);
	for (int i = 0; i < ENGINE_PORT_COUNT; i++)
		freeze_pair(SOCK_STREAM, &v->ports[i], &d.port_fds[i]);
	rc = from ? engine_kvm.restore(&d, from, &v->child, &e)
		  : engine_kvm.start(&d, &v->child, &e);
	if (rc)
		freeze_die(from ? "restore" : "start", &e);
	close(d.disks[0].fd);
	close(d.console_fd);
	close(d.control_fd);
	for (int i = 0; i < ENGINE_PORT_COUNT; i++)
		close(d.port_fds[i]);
}

static void freeze_end(struct freeze_vm *v)
{
	child_kill(&v->child);
	close(v->console);
	close(v->control);
	for (int i = 0; i < ENGINE_PORT_COUNT; i++)
		close(v->ports[i]);
}

/* Waits until the guest has reported a round after @beyond. Return: that round. */
static long freeze_watch(const struct freeze_vm *v, long beyond)
{
	static char text[FREEZE_TEXT_MAX];
	size_t len = 0;

	while (len < sizeof(text) - 1) {
		ssize_t n = read(v->console, text + len, sizeof(text) - 1 - len);
		const char *at = text;

		if (n <= 0)
			break;
		len += (size_t)n;
		text[len] = '\0';
		if (strstr(text, "BAD"))
			break;
		while ((at = strstr(at, "round=")) && strchr(at, '\n')) {
			at += strlen("round=");
			if (strtol(at, NULL, 10) > beyond)
				return strtol(at, NULL, 10);
		}
	}
	fprintf(stderr, "engine-freeze: the guest said:\n%s\n", text);
	exit(1);
}

static void freeze_request(const struct freeze_vm *v, const char *what, int rc, uint32_t id,
			   struct err *e)
{
	if (rc || engine_await(&engine_kvm, v->control, id, FREEZE_TIMEOUT_MS, e))
		freeze_die(what, e);
}

static void freeze_snapshot(const struct freeze_vm *v, struct engine_snapshot *out)
{
	struct err e = ERR_INIT;

	out->state_fd = memfd_create("state", MFD_CLOEXEC);
	out->memory_fd = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	freeze_request(v, "pause", engine_kvm.pause(v->control, 1, &e), 1, &e);
	freeze_request(v, "resume", engine_kvm.resume(v->control, 2, &e), 2, &e);
	freeze_request(v, "pause", engine_kvm.pause(v->control, 3, &e), 3, &e);
	freeze_request(v, "snapshot", engine_kvm.snapshot(v->control, 4, out, &e), 4, &e);
}

int main(int argc, char **argv)
{
	struct freeze_vm v = { .child = CHILD_INIT };
	struct err e = ERR_INIT;
	struct engine_snapshot s;
	long round;

	if (argc != 4) {
		fprintf(stderr, "usage: engine-freeze KERNEL INITRAMFS DISK\n");
		return 2;
	}
	freeze_start(&v, argv, NULL);
	round = freeze_watch(&v, -1);
	freeze_snapshot(&v, &s);
	freeze_end(&v);

	/* Not sealed, so another machine could be changed through it. */
	freeze_start(&v, argv, &s);
	if (engine_await(&engine_kvm, v.control, 1, FREEZE_TIMEOUT_MS, &e) != -EPIPE ||
	    !strstr(err_text(&e), "could be written"))
		freeze_die("a memory file that could be written was not refused", &e);
	freeze_end(&v);

	if (fcntl(s.memory_fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) < 0) {
		perror("F_ADD_SEALS");
		return 1;
	}
	freeze_start(&v, argv, &s);
	freeze_watch(&v, round);
	freeze_end(&v);
	close(s.state_fd);
	close(s.memory_fd);
	printf("ok\n");
	return 0;
}
