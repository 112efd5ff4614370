/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's requests to a running VM, with the test as the VM process. */
#include "unit/test.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/vmm_control.h"
#include "engine/kvm.h"
#include "engine/tcg.h"

struct pair {
	int ours, theirs; /* supervisor, VM process */
};

static void pair_open(struct pair *p)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
	p->ours = sv[0];
	p->theirs = sv[1];
}

static void pair_close(struct pair *p)
{
	close_fd(&p->ours);
	close_fd(&p->theirs);
}

static void pair_answer(struct pair *p, uint16_t type, uint32_t id, uint32_t code, const char *text)
{
	struct vmm_control_message m = { .type = type, .id = id, .code = code };
	uint8_t packet[VMM_CONTROL_MAX];
	size_t n;

	strcpy(m.text, text);
	n = vmm_control_encode(&m, packet);
	assert_int_equal(send(p->theirs, packet, n, 0), n);
}

/* Receives a request as the VM process would. Return: number of descriptors in @fds. */
static unsigned pair_request(struct pair *p, uint16_t type, uint32_t id, int fds[2])
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(4 * sizeof(int))];
	} aux;
	uint8_t packet[VMM_CONTROL_MAX];
	struct iovec iov = { packet, sizeof(packet) };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = aux.bytes,
			      .msg_controllen = sizeof(aux.bytes) };
	struct vmm_control_message m;
	ssize_t n = recvmsg(p->theirs, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *h;

	assert_true(n > 0);
	assert_int_equal(vmm_control_decode(packet, (size_t)n, &m, NULL), 0);
	assert_int_equal(m.type, type);
	assert_int_equal(m.id, id);
	h = CMSG_FIRSTHDR(&msg);
	if (!h)
		return 0;
	assert_int_equal(h->cmsg_len, CMSG_LEN(2 * sizeof(int)));
	memcpy(fds, CMSG_DATA(h), 2 * sizeof(int));
	return 2;
}

static void test_requests(void **state)
{
	const struct engine_ops *kvm = &engine_kvm;
	struct engine_snapshot to;
	struct pair p;
	int a[2], b[2], fds[2];
	char c;

	(void)state;
	pair_open(&p);
	assert_int_equal(kvm->pause(p.ours, 1, NULL), 0);
	assert_int_equal(pair_request(&p, VMM_CONTROL_PAUSE, 1, fds), 0);
	assert_int_equal(kvm->resume(p.ours, 2, NULL), 0);
	assert_int_equal(pair_request(&p, VMM_CONTROL_RESUME, 2, fds), 0);

	/* The descriptors arrive in their order. */
	assert_int_equal(pipe(a), 0);
	assert_int_equal(pipe(b), 0);
	to = (struct engine_snapshot){ .state_fd = a[1], .memory_fd = b[1] };
	assert_int_equal(kvm->snapshot(p.ours, 3, &to, NULL), 0);
	assert_int_equal(pair_request(&p, VMM_CONTROL_SNAPSHOT, 3, fds), 2);
	assert_int_equal(write(fds[0], "s", 1), 1);
	assert_int_equal(write(fds[1], "m", 1), 1);
	assert_int_equal(read(a[0], &c, 1), 1);
	assert_int_equal(c, 's');
	assert_int_equal(read(b[0], &c, 1), 1);
	assert_int_equal(c, 'm');
	for (int i = 0; i < 2; i++) {
		close(a[i]);
		close(b[i]);
		close(fds[i]);
	}
	pair_close(&p);
}

/* A VM process that does not read does not hold anybody up. */
static void test_never_blocks(void **state)
{
	struct err e = ERR_INIT;
	struct pair p;
	int rc = 0;

	(void)state;
	pair_open(&p);
	for (uint32_t i = 0; !rc; i++)
		rc = engine_kvm.pause(p.ours, i, &e);
	assert_int_equal(rc, -EAGAIN);
	close_fd(&p.theirs);
	assert_int_equal(engine_kvm.resume(p.ours, 0, NULL), -EPIPE);
	pair_close(&p);
}

static void test_events(void **state)
{
	struct engine_event ev;
	struct pair p;

	(void)state;
	pair_open(&p);
	assert_int_equal(engine_kvm.event(p.ours, &ev, NULL), 0);
	pair_answer(&p, VMM_CONTROL_DONE, 9, EBUSY, "it runs");
	assert_int_equal(engine_kvm.event(p.ours, &ev, NULL), 1);
	assert_int_equal(ev.kind, ENGINE_EVENT_DONE);
	assert_int_equal(ev.id, 9);
	assert_int_equal(ev.code, EBUSY);
	assert_string_equal(ev.text, "it runs");
	pair_answer(&p, VMM_CONTROL_ENDED, 0, VMM_CONTROL_END_RESET, "");
	assert_int_equal(engine_kvm.event(p.ours, &ev, NULL), 1);
	assert_int_equal(ev.kind, ENGINE_EVENT_ENDED);
	assert_int_equal(ev.code, 0);
	pair_answer(&p, VMM_CONTROL_ENDED, 0, VMM_CONTROL_END_CRASH, "triple fault");
	assert_int_equal(engine_kvm.event(p.ours, &ev, NULL), 1);
	assert_int_equal(ev.code, EIO);
	assert_string_equal(ev.text, "triple fault");
	/* What no VM process of ours sends. */
	pair_answer(&p, VMM_CONTROL_PAUSE, 1, 0, "");
	assert_int_equal(engine_kvm.event(p.ours, &ev, NULL), -EPROTO);
	assert_int_equal(send(p.theirs, "rubbish", 7, 0), 7);
	assert_int_equal(engine_kvm.event(p.ours, &ev, NULL), -EPROTO);
	close_fd(&p.theirs);
	assert_int_equal(engine_kvm.event(p.ours, &ev, NULL), -EPIPE);
	pair_close(&p);
}

/* Descriptors that a VM process sends without being asked do not stay open. */
static void test_unwanted_descriptors(void **state)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} aux = { .bytes = { 0 } };
	const struct vmm_control_message m = { .type = VMM_CONTROL_DONE, .id = 1 };
	uint8_t packet[VMM_CONTROL_MAX];
	struct iovec iov = { packet, vmm_control_encode(&m, packet) };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = aux.bytes,
			      .msg_controllen = sizeof(aux.bytes) };
	struct cmsghdr *h = CMSG_FIRSTHDR(&msg);
	struct engine_event ev;
	struct pair p;
	int before;

	(void)state;
	pair_open(&p);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &p.theirs, sizeof(int));
	before = test_count_fds();
	assert_true(sendmsg(p.theirs, &msg, 0) > 0);
	assert_int_equal(engine_kvm.event(p.ours, &ev, NULL), 1);
	assert_int_equal(test_count_fds(), before);
	pair_close(&p);
}

static void test_await(void **state)
{
	struct err e = ERR_INIT;
	struct pair p;

	(void)state;
	pair_open(&p);
	/* An answer to somebody else's request is passed over. */
	pair_answer(&p, VMM_CONTROL_DONE, 4, EIO, "other");
	pair_answer(&p, VMM_CONTROL_DONE, 5, 0, "");
	assert_int_equal(engine_await(&engine_kvm, p.ours, 5, 1000, NULL), 0);
	pair_answer(&p, VMM_CONTROL_DONE, 6, ENOSPC, "disk full");
	assert_int_equal(engine_await(&engine_kvm, p.ours, 6, 1000, &e), -ENOSPC);
	assert_string_equal(e.msg, "disk full");
	err_clear(&e);
	assert_int_equal(engine_await(&engine_kvm, p.ours, 7, 0, &e), -ETIMEDOUT);
	assert_int_equal(engine_await(&engine_kvm, p.ours, 7, 1, NULL), -ETIMEDOUT);
	err_clear(&e);
	pair_answer(&p, VMM_CONTROL_ENDED, 0, VMM_CONTROL_END_HOST, "out of memory");
	assert_int_equal(engine_await(&engine_kvm, p.ours, 7, 1000, &e), -EPIPE);
	assert_string_equal(e.msg, "the VM ended: out of memory");
	close_fd(&p.theirs);
	assert_int_equal(engine_await(&engine_kvm, p.ours, 7, 1000, NULL), -EPIPE);
	pair_close(&p);
}

static void test_tcg_says_no(void **state)
{
	const struct engine_snapshot files = { -1, -1 };
	const struct engine_vm_desc desc = { .name = "x" };
	const struct engine_ops *tcg = &engine_tcg;
	struct child child = CHILD_INIT;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(tcg->pause(-1, 1, &e), -ENOTSUP);
	assert_non_null(strstr(e.msg, "--engine kvm"));
	assert_int_equal(tcg->resume(-1, 1, NULL), -ENOTSUP);
	assert_int_equal(tcg->snapshot(-1, 1, &files, NULL), -ENOTSUP);
	assert_int_equal(tcg->restore(&desc, &files, &child, NULL), -ENOTSUP);
	assert_int_equal(engine_await(tcg, -1, 1, 1000, NULL), -ENOTSUP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_requests), TEST(test_never_blocks),
		TEST(test_events),   TEST(test_unwanted_descriptors),
		TEST(test_await),    TEST(test_tcg_says_no),
	};

	return test_run(tests);
}
