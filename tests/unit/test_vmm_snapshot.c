/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of a snapshot and the control socket, as far as they need no KVM: memory that is
 * written and mapped again, files that must be refused, requests.  Whole machines are
 * frozen and restored in tests/lab.
 */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "codec/le.h"
#include "codec/vmm_control.h"
#include "vmm/control.h"
#include "vmm/snapshot.h"
#include "vmm/state.h"

#define PAGE 4096u
#define MEMORY_BYTES (32u << 20)

/* ---- memory ---- */

static bool file_is_data(int fd, off_t at)
{
	return lseek(fd, at, SEEK_DATA) == at;
}

static void test_memory_sparse(void **state)
{
	/* Pages with something in them: at both ends, alone, in a row, in one byte only. */
	static const unsigned pages[] = { 0, 100, 101, 102, 2000, 8191 };
	struct memory m, back;
	unsigned data = 0;
	int fd = memfd_create("memory", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(memory_create(&m, MEMORY_BYTES, -1, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		m.slots[0].host[(size_t)pages[i] * PAGE + (i * 819) % PAGE] = (uint8_t)(i + 1);
	assert_int_equal(snapshot_write_memory(&m, fd, NULL), 0);
	assert_int_equal(lseek(fd, 0, SEEK_END), MEMORY_BYTES);
	for (unsigned i = 0; i < MEMORY_BYTES / PAGE; i++)
		data += file_is_data(fd, (off_t)i * PAGE);
	assert_int_equal(data, ARRAY_SIZE(pages));
	assert_int_equal(memory_create(&back, MEMORY_BYTES, fd, NULL), 0);
	assert_memory_equal(back.slots[0].host, m.slots[0].host, MEMORY_BYTES);

	/* What a clone writes is its own. */
	back.slots[0].host[0] = 0x77;
	back.slots[0].host[50 * PAGE] = 0x77;
	memory_destroy(&back);
	assert_int_equal(memory_create(&back, MEMORY_BYTES, fd, NULL), 0);
	assert_memory_equal(back.slots[0].host, m.slots[0].host, MEMORY_BYTES);
	memory_destroy(&back);
	memory_destroy(&m);
	close(fd);
}

/* Longer runs than one write takes, and runs that end where memory does. */
static void test_memory_full(void **state)
{
	struct memory m, back;
	int fd = memfd_create("memory", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(memory_create(&m, MEMORY_BYTES, -1, NULL), 0);
	for (size_t i = 0; i < MEMORY_BYTES; i += 8)
		le_put64(m.slots[0].host + i, i * 0x9e3779b97f4a7c15ull | 1);
	assert_int_equal(snapshot_write_memory(&m, fd, NULL), 0);
	assert_int_equal(memory_create(&back, MEMORY_BYTES, fd, NULL), 0);
	assert_memory_equal(back.slots[0].host, m.slots[0].host, MEMORY_BYTES);
	memory_destroy(&back);
	memory_destroy(&m);
	close(fd);
}

static void test_memory_write_fails(void **state)
{
	struct err e = ERR_INIT;
	struct memory m;
	int fd = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	(void)state;
	assert_int_equal(memory_create(&m, MEMORY_BYTES, -1, NULL), 0);
	m.slots[0].host[PAGE] = 1;
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
	assert_int_equal(snapshot_write_memory(&m, fd, &e), -EPERM);
	assert_non_null(strstr(e.msg, "memory file of 32 MiB"));
	memory_destroy(&m);
	close(fd);
}

/* ---- opening ---- */

struct files {
	int state_fd, memory_fd;
	uint8_t *bytes; /* of the state */
	size_t n;
};

/* A state that this process could have written, of a machine without devices. */
static void files_create(struct files *f)
{
	static const size_t vm[] = { sizeof(struct kvm_clock_data), sizeof(struct kvm_pic_state),
				     sizeof(struct kvm_pic_state),
				     sizeof(struct kvm_ioapic_state) };
	static const size_t cpu[] = { sizeof(struct kvm_cpuid_entry2),
				      sizeof(struct kvm_mp_state),
				      sizeof(struct kvm_regs),
				      sizeof(struct kvm_sregs),
				      sizeof(struct kvm_xsave),
				      sizeof(struct kvm_xcrs),
				      sizeof(struct kvm_debugregs),
				      sizeof(struct kvm_lapic_state),
				      4,
				      sizeof(struct kvm_msr_entry),
				      sizeof(struct kvm_vcpu_events) };
	static const uint8_t zero[sizeof(struct kvm_xsave)];
	struct snapshot s = { .n_slots = 1, .slots = { { 0, MEMORY_BYTES } }, .n_cpus = 1 };
	uint8_t trailer[SNAPSHOT_TRAILER_SIZE];
	struct buf b;

	assert_int_equal(state_identity(&s.identity, NULL), 0);
	for (unsigned k = 0; k < SNAPSHOT_VM_PARTS; k++)
		s.vm[k] = (struct snapshot_part){ zero, vm[k] };
	for (unsigned k = 0; k < SNAPSHOT_CPU_PARTS; k++)
		s.cpus[0][k] = (struct snapshot_part){ zero, cpu[k] };
	buf_init(&b, SNAPSHOT_SIZE_MAX);
	assert_int_equal(snapshot_encode(&s, &b, NULL), 0);
	f->n = buf_len(&b);
	f->bytes = malloc(f->n);
	assert_non_null(f->bytes);
	memcpy(f->bytes, buf_data(&b), f->n);
	buf_fini(&b);
	f->state_fd = memfd_create("state", MFD_CLOEXEC);
	f->memory_fd = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(pwrite(f->state_fd, f->bytes, f->n, 0), f->n);
	snapshot_trailer_encode(&s, trailer);
	assert_int_equal(pwrite(f->memory_fd, trailer, sizeof(trailer), MEMORY_BYTES),
			 sizeof(trailer));
}

static void files_destroy(struct files *f)
{
	close(f->state_fd);
	close(f->memory_fd);
	free(f->bytes);
}

static void assert_open_refused(const struct files *f, int memory_fd, int code, const char *reason)
{
	struct snapshot_source src = { .bytes = NULL };
	struct err e = ERR_INIT;

	assert_int_equal(snapshot_open(&src, f->state_fd, memory_fd, &e), -code);
	if (!strstr(e.msg, reason))
		fail_msg("'%s' does not say '%s'", e.msg, reason);
	assert_null(src.bytes);
}

static void files_reseal_state(struct files *f)
{
	memset(f->bytes + 24, 0, 8);
	le_put64(f->bytes + 24, snapshot_crc64(0, f->bytes, f->n));
	assert_int_equal(pwrite(f->state_fd, f->bytes, f->n, 0), f->n);
}

static void test_open(void **state)
{
	struct snapshot_source src;
	struct files f;
	char path[64];
	int readonly;

	(void)state;
	files_create(&f);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f.memory_fd);
	readonly = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(readonly >= 0);
	assert_int_equal(snapshot_open(&src, f.state_fd, readonly, NULL), 0);
	assert_int_equal(src.s.n_cpus, 1);
	snapshot_close(&src);
	snapshot_close(&src);
	/* Other machines may share it: nobody may hold it open for writing. */
	assert_open_refused(&f, f.memory_fd, EPERM, "open it read-only, or seal the memfd");
	assert_int_equal(fcntl(f.memory_fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK), 0);
	assert_open_refused(&f, f.memory_fd, EPERM, "could be written");
	assert_int_equal(fcntl(f.memory_fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	assert_int_equal(snapshot_open(&src, f.state_fd, f.memory_fd, NULL), 0);
	snapshot_close(&src);
	close(readonly);
	files_destroy(&f);
}

static void test_open_refuses_memory(void **state)
{
	struct files f;
	char path[64];
	int readonly, sv[2];

	(void)state;
	files_create(&f);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f.memory_fd);
	readonly = open(path, O_RDONLY | O_CLOEXEC);
	/* Another state: its clock (offset: header, memory layout, section header) differs. */
	f.bytes[SNAPSHOT_HEADER_SIZE + 24 + 8] ^= 1;
	files_reseal_state(&f);
	assert_open_refused(&f, readonly, EINVAL, "belongs to another state file");
	assert_int_equal(ftruncate(f.memory_fd, MEMORY_BYTES), 0);
	assert_open_refused(&f, readonly, EINVAL, "has 33554432 bytes, the snapshot's has 33558528");
	assert_int_equal(ftruncate(f.memory_fd, MEMORY_BYTES + SNAPSHOT_TRAILER_SIZE), 0);
	assert_open_refused(&f, readonly, EINVAL, "does not end where");
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_open_refused(&f, sv[0], EPERM, "could be written");
	close(sv[0]);
	close(sv[1]);
	close(readonly);
	files_destroy(&f);
}

static void test_open_refuses_state(void **state)
{
	struct files f;
	int fds[2];

	(void)state;
	files_create(&f);
	assert_int_equal(fcntl(f.memory_fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	f.bytes[200] ^= 1;
	assert_int_equal(pwrite(f.state_fd, f.bytes, f.n, 0), f.n);
	assert_open_refused(&f, f.memory_fd, EINVAL, "damaged");
	f.bytes[200] ^= 1;
	f.bytes[32] ^= 1;
	files_reseal_state(&f);
	assert_open_refused(&f, f.memory_fd, EXDEV, "another build of msb-vmm");
	f.bytes[32] ^= 1;
	f.bytes[80] ^= 1;
	files_reseal_state(&f);
	assert_open_refused(&f, f.memory_fd, EXDEV, "of another CPU");
	f.bytes[80] ^= 1;
	f.bytes[88] ^= 1;
	files_reseal_state(&f);
	assert_open_refused(&f, f.memory_fd, EXDEV, "other features");
	f.bytes[88] ^= 1;
	f.bytes[8]++;
	files_reseal_state(&f);
	assert_open_refused(&f, f.memory_fd, EINVAL, "format 2, this program reads 1");
	f.bytes[8]--;
	files_reseal_state(&f);
	assert_int_equal(ftruncate(f.state_fd, (off_t)f.n - 1), 0);
	assert_open_refused(&f, f.memory_fd, EINVAL, "cut short");
	assert_int_equal(ftruncate(f.state_fd, SNAPSHOT_SIZE_MAX + 1), 0);
	assert_open_refused(&f, f.memory_fd, EINVAL, "regular file of 1 to 10485760 bytes");
	assert_int_equal(ftruncate(f.state_fd, 0), 0);
	assert_open_refused(&f, f.memory_fd, EINVAL, "regular file of 1 to 10485760 bytes");
	close(f.state_fd);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	f.state_fd = fds[0];
	assert_open_refused(&f, f.memory_fd, EINVAL, "regular file");
	close(fds[1]);
	files_destroy(&f);
}

static void test_identity_is_stable(void **state)
{
	struct snapshot_identity a, b;
	static const uint8_t zero[20];

	(void)state;
	assert_int_equal(state_identity(&a, NULL), 0);
	assert_int_equal(state_identity(&b, NULL), 0);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_memory_not_equal(a.build, zero, sizeof(zero));
	assert_true(a.family >= 6);
}

/* ---- the control socket ---- */

/* A machine without CPUs and devices: paused, resumed and ended as any other. */
struct machine {
	struct vm vm;
	struct control *control;
	int ours;
};

static void machine_create(struct machine *m)
{
	int sv[2];

	memset(m, 0, sizeof(*m));
	m->vm.cfg.kvm_fd = m->vm.vm_fd = -1;
	m->vm.end_fd = -1;
	m->vm.state = VM_RUNNING;
	pthread_mutex_init(&m->vm.lock, NULL);
	pthread_cond_init(&m->vm.changed, NULL);
	assert_int_equal(loop_create(&m->vm.loop, NULL), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
	m->ours = sv[0];
	assert_int_equal(control_create(&m->control, &m->vm, sv[1], NULL), 0);
}

static void machine_destroy(struct machine *m)
{
	control_destroy(m->control);
	loop_destroy(m->vm.loop);
	pthread_cond_destroy(&m->vm.changed);
	pthread_mutex_destroy(&m->vm.lock);
	close_fd(&m->ours);
}

static void machine_send(struct machine *m, const void *p, size_t n, const int *fds, size_t n_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * 16)];
	} aux = { .bytes = { 0 } };
	struct iovec iov = { (void *)p, n };
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
	assert_int_equal(sendmsg(m->ours, &msg, 0), n);
	assert_int_equal(loop_run_once(m->vm.loop, 0), 0);
}

static void machine_expect(struct machine *m, uint16_t type, uint32_t id, uint32_t code,
			   const char *text)
{
	struct vmm_control_message got;
	uint8_t packet[VMM_CONTROL_MAX];
	ssize_t n = recv(m->ours, packet, sizeof(packet), MSG_DONTWAIT);

	assert_true(n > 0);
	assert_int_equal(vmm_control_decode(packet, (size_t)n, &got, NULL), 0);
	assert_int_equal(got.type, type);
	assert_int_equal(got.id, id);
	assert_int_equal(got.code, code);
	if (!strstr(got.text, text))
		fail_msg("'%s' does not say '%s'", got.text, text);
}

static void machine_ask(struct machine *m, uint16_t type, uint32_t id, const int *fds, size_t n_fds)
{
	const struct vmm_control_message q = { .type = type, .id = id };
	uint8_t packet[VMM_CONTROL_MAX];

	machine_send(m, packet, vmm_control_encode(&q, packet), fds, n_fds);
}

static void test_control_states(void **state)
{
	struct machine m;

	(void)state;
	machine_create(&m);
	machine_ask(&m, VMM_CONTROL_RESUME, 1, NULL, 0);
	machine_expect(&m, VMM_CONTROL_DONE, 1, 0, "");
	assert_int_equal(m.vm.state, VM_RUNNING);
	for (uint32_t i = 0; i < 2; i++) {
		machine_ask(&m, VMM_CONTROL_PAUSE, i, NULL, 0);
		machine_expect(&m, VMM_CONTROL_DONE, i, 0, "");
		assert_int_equal(m.vm.state, VM_PAUSED);
	}
	machine_ask(&m, VMM_CONTROL_RESUME, 3, NULL, 0);
	machine_expect(&m, VMM_CONTROL_DONE, 3, 0, "");
	assert_int_equal(m.vm.state, VM_RUNNING);
	vm_end(&m.vm, VM_END_CRASH, "the guest crashed");
	machine_ask(&m, VMM_CONTROL_PAUSE, 4, NULL, 0);
	machine_expect(&m, VMM_CONTROL_DONE, 4, ESHUTDOWN, "has ended");
	control_send_ended(m.control);
	machine_expect(&m, VMM_CONTROL_ENDED, 0, VMM_CONTROL_END_CRASH, "the guest crashed");
	machine_destroy(&m);
}

static void test_control_snapshot_refused(void **state)
{
	int fds[9], before, append;
	struct machine m;

	(void)state;
	machine_create(&m);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = memfd_create("file", MFD_CLOEXEC);
	before = test_count_fds();
	machine_ask(&m, VMM_CONTROL_SNAPSHOT, 1, fds, 2);
	machine_expect(&m, VMM_CONTROL_DONE, 1, EBUSY, "PAUSE it first");
	machine_ask(&m, VMM_CONTROL_PAUSE, 2, fds, 1);
	machine_expect(&m, VMM_CONTROL_DONE, 2, EINVAL, "PAUSE takes no descriptors");
	machine_ask(&m, VMM_CONTROL_PAUSE, 3, NULL, 0);
	machine_expect(&m, VMM_CONTROL_DONE, 3, 0, "");
	machine_ask(&m, VMM_CONTROL_SNAPSHOT, 4, fds, 1);
	machine_expect(&m, VMM_CONTROL_DONE, 4, EINVAL, "1 descriptors, 2 wanted");
	machine_ask(&m, VMM_CONTROL_SNAPSHOT, 5, fds, 3);
	machine_expect(&m, VMM_CONTROL_DONE, 5, EINVAL, "3 descriptors, 2 wanted");
	machine_ask(&m, VMM_CONTROL_SNAPSHOT, 6, fds, 9);
	machine_expect(&m, VMM_CONTROL_DONE, 0, EINVAL, "more than 8 descriptors");
	/* There is no KVM behind this machine: a failure of the host, told as such. */
	machine_ask(&m, VMM_CONTROL_SNAPSHOT, 7, fds, 2);
	machine_expect(&m, VMM_CONTROL_DONE, 7, EBADF, "KVM_GET_MSR_INDEX_LIST");
	assert_int_equal(lseek(fds[0], 0, SEEK_END), 0);
	append = fcntl(fds[1], F_GETFL);
	assert_int_equal(fcntl(fds[1], F_SETFL, append | O_APPEND), 0);
	machine_ask(&m, VMM_CONTROL_SNAPSHOT, 8, fds, 2);
	machine_expect(&m, VMM_CONTROL_DONE, 8, EINVAL, "memory file: has to be an empty");
	assert_int_equal(pwrite(fds[0], "x", 1, 0), 1);
	machine_ask(&m, VMM_CONTROL_SNAPSHOT, 9, fds, 2);
	machine_expect(&m, VMM_CONTROL_DONE, 9, EINVAL, "state file: has to be an empty");
	/* Nothing that came with a request stays open. */
	assert_int_equal(test_count_fds(), before);
	assert_int_equal(m.vm.state, VM_PAUSED);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	machine_destroy(&m);
}

static void test_control_malformed(void **state)
{
	uint8_t packet[VMM_CONTROL_MAX + 8] = { 0 };
	struct machine m;

	(void)state;
	machine_create(&m);
	machine_send(&m, "short", 5, NULL, 0);
	machine_expect(&m, VMM_CONTROL_DONE, 0, EPROTO, "5 bytes");
	machine_send(&m, packet, sizeof(packet), NULL, 0);
	machine_expect(&m, VMM_CONTROL_DONE, 0, EPROTO, "513 bytes");
	machine_ask(&m, VMM_CONTROL_DONE, 1, NULL, 0);
	machine_expect(&m, VMM_CONTROL_DONE, 1, EPROTO, "DONE is not a request");
	assert_int_equal(m.vm.state, VM_RUNNING);
	machine_destroy(&m);
}

static void test_control_supervisor_gone(void **state)
{
	struct machine m;

	(void)state;
	machine_create(&m);
	close_fd(&m.ours);
	assert_int_equal(loop_run_once(m.vm.loop, 0), 0);
	assert_int_equal(m.vm.state, VM_ENDED);
	assert_int_equal(m.vm.end_kind, VM_END_HOST);
	assert_string_equal(m.vm.end_reason, "the supervisor is gone");
	machine_destroy(&m);
}

static void test_control_wrong_socket(void **state)
{
	struct vm vm = { .vm_fd = -1 };
	struct control *c = NULL;
	struct err e = ERR_INIT;
	int sv[2];

	(void)state;
	assert_int_equal(loop_create(&vm.loop, NULL), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(control_create(&c, &vm, sv[1], &e), -EINVAL);
	assert_non_null(strstr(e.msg, "SOCK_SEQPACKET"));
	assert_null(c);
	control_destroy(c);
	close(sv[0]);
	loop_destroy(vm.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_memory_sparse),
		TEST(test_memory_full),
		TEST(test_memory_write_fails),
		TEST(test_open),
		TEST(test_open_refuses_memory),
		TEST(test_open_refuses_state),
		TEST(test_identity_is_stable),
		TEST(test_control_states),
		TEST(test_control_snapshot_refused),
		TEST(test_control_malformed),
		TEST(test_control_supervisor_gone),
		TEST(test_control_wrong_socket),
	};

	log_set_level(LOG_ERR);
	return test_run(tests);
}
