/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose: what the supervisor may ask of a running VMM: to pause, to resume, to write a
 * snapshot; and what the VMM tells it: why the machine ended.
 *
 * Trust boundary: the supervisor is trusted to ask; what it sends is checked as if it
 * were not, since a check costs nothing.
 *
 * Ownership: the descriptors that come with a request are closed when it is done,
 * whatever becomes of it.
 *
 * Failure: a request that fails is answered with its reason, and changes nothing.  When
 * the other end is closed there is nobody left who could use the machine: it ends.
 */
#include "vmm/control.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/mem.h"
#include "codec/vmm_control.h"
#include "vmm/snapshot.h"

static_assert((int)VM_END_RESET == VMM_CONTROL_END_RESET &&
		      (int)VM_END_HOST == VMM_CONTROL_END_HOST &&
		      (int)VM_END_CRASH == VMM_CONTROL_END_CRASH &&
		      (int)VM_END_KVM == VMM_CONTROL_END_KVM,
	      "one set of numbers");

/* Room for more descriptors than any request has, so that a surplus is seen and closed. */
#define CONTROL_FDS_ROOM 8u

struct control {
	struct vm *vm; /* not owned */
	int fd; /* owned */
	struct loop_watch watch;
};

struct control_request {
	struct vmm_control_message m;
	int fds[CONTROL_FDS_ROOM]; /* owned */
	unsigned n_fds;
};

static void control_send(struct control *c, const struct vmm_control_message *m)
{
	uint8_t packet[VMM_CONTROL_MAX];
	size_t n = vmm_control_encode(m, packet);

	/* A supervisor that does not read its answers goes without them. */
	if (send(c->fd, packet, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		log_warn("event=control-send type=%s error=\"%s\"", vmm_control_type_name(m->type),
			 strerror(errno));
}

static void control_answer(struct control *c, uint32_t id, const struct err *e)
{
	struct vmm_control_message m = { .type = VMM_CONTROL_DONE, .id = id };

	if (e->code) {
		m.code = (uint32_t)e->code;
		snprintf(m.text, sizeof(m.text), "%s", err_text(e));
	}
	control_send(c, &m);
}

void control_send_ended(struct control *c)
{
	struct vmm_control_message m = { .type = VMM_CONTROL_ENDED };

	pthread_mutex_lock(&c->vm->lock);
	m.code = (uint32_t)c->vm->end_kind;
	snprintf(m.text, sizeof(m.text), "%s", c->vm->end_reason);
	pthread_mutex_unlock(&c->vm->lock);
	control_send(c, &m);
}

static enum vm_state control_vm_state(struct control *c)
{
	enum vm_state state;

	pthread_mutex_lock(&c->vm->lock);
	state = c->vm->state;
	pthread_mutex_unlock(&c->vm->lock);
	return state;
}

static void control_snapshot(struct control *c, const struct control_request *r, struct err *e)
{
	if (r->n_fds != VMM_CONTROL_FDS_MAX)
		err_set(e, EINVAL, "SNAPSHOT: %u descriptors, 2 wanted: state file, memory file",
			r->n_fds);
	else if (control_vm_state(c) != VM_PAUSED)
		err_set(e, EBUSY, "SNAPSHOT: the machine runs: PAUSE it first");
	else
		snapshot_write(c->vm, r->fds[0], r->fds[1], e);
}

static void control_handle(struct control *c, const struct control_request *r, struct err *e)
{
	if (control_vm_state(c) == VM_ENDED) {
		err_set(e, ESHUTDOWN, "the machine has ended");
		return;
	}
	if (r->m.type != VMM_CONTROL_SNAPSHOT && r->n_fds) {
		err_set(e, EINVAL, "%s takes no descriptors", vmm_control_type_name(r->m.type));
		return;
	}
	switch (r->m.type) {
	case VMM_CONTROL_PAUSE:
		if (!snapshot_freeze(c->vm))
			err_set(e, ESHUTDOWN, "the machine has ended");
		break;
	case VMM_CONTROL_RESUME:
		snapshot_thaw(c->vm);
		break;
	case VMM_CONTROL_SNAPSHOT:
		control_snapshot(c, r, e);
		break;
	default:
		err_set(e, EPROTO, "%s is not a request", vmm_control_type_name(r->m.type));
	}
}

static void request_take_fds(struct control_request *r, struct msghdr *msg)
{
	for (struct cmsghdr *h = CMSG_FIRSTHDR(msg); h; h = CMSG_NXTHDR(msg, h)) {
		size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n && r->n_fds < CONTROL_FDS_ROOM; i++)
			memcpy(&r->fds[r->n_fds++], CMSG_DATA(h) + i * sizeof(int), sizeof(int));
	}
}

/* Return: bytes of the packet, 0 at the end of the connection, or a negative errno. */
static ssize_t control_receive(struct control *c, struct control_request *r, struct err *e)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * CONTROL_FDS_ROOM)];
	} aux;
	/* One byte more than a message has: one that is too long is refused, not cut. */
	uint8_t packet[VMM_CONTROL_MAX + 1];
	struct iovec iov = { .iov_base = packet, .iov_len = sizeof(packet) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = aux.bytes,
		.msg_controllen = sizeof(aux.bytes),
	};
	ssize_t n = recvmsg(c->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n <= 0)
		return n ? -errno : 0;
	request_take_fds(r, &msg);
	if (msg.msg_flags & MSG_CTRUNC)
		err_set(e, EINVAL, "request with more than %u descriptors", CONTROL_FDS_ROOM);
	else
		vmm_control_decode(packet, (size_t)n, &r->m, e);
	return n;
}

static void control_on_ready(struct loop_watch *w, uint32_t events)
{
	struct control *c = container_of(w, struct control, watch);
	struct control_request r = { .n_fds = 0 };
	struct err e = ERR_INIT;
	ssize_t n = control_receive(c, &r, &e);

	(void)events;
	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0) {
		loop_watch_remove(&c->watch);
		vm_end(c->vm, VM_END_HOST, "the supervisor is gone");
		return;
	}
	if (!e.code)
		control_handle(c, &r, &e);
	if (e.code)
		log_info("event=control type=%s error=\"%s\"", vmm_control_type_name(r.m.type),
			 err_text(&e));
	control_answer(c, r.m.id, &e);
	for (unsigned i = 0; i < r.n_fds; i++)
		close(r.fds[i]);
}

int control_create(struct control **out, struct vm *vm, int fd, struct err *e)
{
	auto_free struct control *c = calloc(1, sizeof(*c));
	auto_close int owned = fd;
	int type = 0;
	socklen_t len = sizeof(type);

	if (!c)
		return err_errno(e, ENOMEM, "control socket");
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET)
		return err_set(e, EINVAL,
			       "control socket: descriptor %d is no SOCK_SEQPACKET socket", fd);
	c->vm = vm;
	loop_watch_init(&c->watch, control_on_ready);
	if (loop_watch_add(vm->loop, &c->watch, fd, EPOLLIN) < 0)
		return err_errno(e, errno, "control socket");
	c->fd = take_fd(&owned);
	*out = take_ptr(&c);
	return 0;
}

void control_destroy(struct control *c)
{
	if (!c)
		return;
	loop_watch_remove(&c->watch);
	close(c->fd);
	free(c);
}
