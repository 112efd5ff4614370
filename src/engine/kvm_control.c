/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose: ask a running msb-vmm to pause, resume and write a snapshot, and hear why it
 * ended.  codec/vmm_control.h has the messages.
 *
 * Trust boundary: msb-vmm may have been taken over by its guest.  A packet is checked by
 * the codec; descriptors are not accepted (none are asked for, so the kernel drops them);
 * what its guest may have put into a text is printable.
 *
 * Failure: nothing here blocks.  A VM process that does not read, or sends rubbish, is an
 * error of the call; ending it is the caller's decision.
 */
#include "engine/kvm_control.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "codec/vmm_control.h"

static_assert(ENGINE_TEXT_MAX > VMM_CONTROL_TEXT_MAX, "every text fits");

static int kvm_control_send(int control, uint16_t type, uint32_t id, const int *fds, size_t n_fds,
			    struct err *e)
{
	const struct vmm_control_message m = { .type = type, .id = id };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * VMM_CONTROL_FDS_MAX)];
	} aux = { .bytes = { 0 } };
	uint8_t packet[VMM_CONTROL_MAX];
	struct iovec iov = { .iov_base = packet, .iov_len = vmm_control_encode(&m, packet) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n_fds) {
		struct cmsghdr *h;

		msg.msg_control = aux.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		h = CMSG_FIRSTHDR(&msg);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(h), fds, sizeof(int) * n_fds);
	}
	if (sendmsg(control, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return 0;
	/* ECONNRESET: it has gone with packets unread. */
	return err_errno(e, errno == ECONNRESET ? EPIPE : errno,
			 "cannot ask the VM (msb-vmm) to %s", vmm_control_type_name(type));
}

int kvm_control_pause(int control, uint32_t id, struct err *e)
{
	return kvm_control_send(control, VMM_CONTROL_PAUSE, id, NULL, 0, e);
}

int kvm_control_resume(int control, uint32_t id, struct err *e)
{
	return kvm_control_send(control, VMM_CONTROL_RESUME, id, NULL, 0, e);
}

int kvm_control_snapshot(int control, uint32_t id, const struct engine_snapshot *to, struct err *e)
{
	const int fds[] = { to->state_fd, to->memory_fd };

	return kvm_control_send(control, VMM_CONTROL_SNAPSHOT, id, fds, ARRAY_SIZE(fds), e);
}

int kvm_control_event(int control, struct engine_event *out, struct err *e)
{
	/* One byte more than a message has: one that is too long is refused, not cut. */
	uint8_t packet[VMM_CONTROL_MAX + 1];
	struct vmm_control_message m;
	ssize_t n = recv(control, packet, sizeof(packet), MSG_DONTWAIT);
	int rc;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return err_set(e, EPIPE, "the VM process (msb-vmm) is gone");
	rc = vmm_control_decode(packet, (size_t)n, &m, e);
	if (rc) {
		err_wrap(e, "msb-vmm");
		return rc;
	}
	if (vmm_control_is_request(m.type))
		return err_set(e, EPROTO, "msb-vmm sent a request (%s)",
			       vmm_control_type_name(m.type));
	*out = (struct engine_event){ .id = m.id };
	if (m.type == VMM_CONTROL_ENDED) {
		out->kind = ENGINE_EVENT_ENDED;
		out->code = m.code == VMM_CONTROL_END_RESET ? 0 : EIO;
	} else {
		out->kind = ENGINE_EVENT_DONE;
		out->code = (int)m.code;
	}
	snprintf(out->text, sizeof(out->text), "%s", m.text);
	return 1;
}
