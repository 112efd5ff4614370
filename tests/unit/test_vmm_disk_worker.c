/* SPDX-License-Identifier: Apache-2.0 */
/* The disk worker, with system calls that the test holds up, cuts short or lets fail. */
#include "unit/test.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/mem.h"
#include "sys/loop.h"
#include "vmm/virtio/disk_worker.h"

#define FILE_BYTES (256u << 10)

static struct loop *loop;
static struct disk_worker *worker;
static int file_fd;
static uint8_t memory[FILE_BYTES];
static unsigned calls; /* of completed() */

/* What the calls below do. */
static atomic_bool held; /* reads wait for the gate */
static int gate[2], arrived[2];
static atomic_uint reads;
static atomic_llong running; /* offset of the read that is under way, -1 = none */
static atomic_uint cut; /* reads return at most so many bytes */
static atomic_int nowait_errno; /* of a read that may not wait, after its first part */
static atomic_bool no_punch;
static atomic_bool interrupted; /* the next call is */

static uint8_t pattern(uint64_t at)
{
	return (uint8_t)((at * 2654435761u) >> 21);
}

static ssize_t fake_preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	struct iovec first = iov[0];
	ssize_t got;
	char c;

	atomic_fetch_add(&reads, 1);
	atomic_store(&running, offset);
	if (atomic_exchange(&interrupted, false)) {
		errno = EINTR;
		return -1;
	}
	if ((flags & RWF_NOWAIT) && atomic_load(&nowait_errno)) {
		if (atomic_load(&nowait_errno) != EAGAIN || atomic_load(&reads) > 1) {
			errno = atomic_load(&nowait_errno);
			return -1;
		}
	}
	if (atomic_load(&held)) {
		assert_int_equal(write(arrived[1], "", 1), 1);
		assert_int_equal(read(gate[0], &c, 1), 1);
	}
	if (atomic_load(&cut)) {
		if (first.iov_len > atomic_load(&cut))
			first.iov_len = atomic_load(&cut);
		got = preadv(fd, &first, 1, offset);
	} else {
		got = preadv(fd, iov, n, offset);
	}
	atomic_store(&running, -1);
	return got;
}

static ssize_t fake_pwritev2(int fd, const struct iovec *iov, int n, off_t offset)
{
	if (atomic_exchange(&interrupted, false)) {
		errno = EINTR;
		return -1;
	}
	return pwritev(fd, iov, n, offset);
}

/* These two are found by the linker before libc's. */
long syscall(long number, ...)
{
	long (*libc_syscall)(long, ...) = NULL;
	long a[6];
	va_list ap;

	va_start(ap, number);
	for (unsigned i = 0; i < ARRAY_SIZE(a); i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (number == SYS_preadv2)
		return fake_preadv2((int)a[0], (const struct iovec *)a[1], (int)a[2], a[3],
				    (int)a[5]);
	if (number == SYS_pwritev2)
		return fake_pwritev2((int)a[0], (const struct iovec *)a[1], (int)a[2], a[3]);
	*(void **)&libc_syscall = dlsym(RTLD_NEXT, "syscall");
	return libc_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
	if (atomic_exchange(&interrupted, false)) {
		errno = EINTR;
		return -1;
	}
	if (atomic_load(&no_punch)) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return (int)syscall(SYS_fallocate, fd, mode, offset, len);
}

static void begin(void)
{
	held = no_punch = interrupted = false;
	reads = cut = 0;
	running = -1;
	nowait_errno = 0;
	calls = 0;
	file_fd = memfd_create("disk", MFD_CLOEXEC);
	assert_true(file_fd >= 0);
	for (size_t i = 0; i < FILE_BYTES; i++)
		memory[i] = pattern(i);
	assert_int_equal(write(file_fd, memory, FILE_BYTES), FILE_BYTES);
	memset(memory, 0, FILE_BYTES);
	assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
	assert_int_equal(pipe2(arrived, O_CLOEXEC), 0);
	assert_int_equal(loop_create(&loop, NULL), 0);
	assert_int_equal(disk_worker_create(&worker, loop, NULL), 0);
}

static void end(void)
{
	disk_worker_destroy(worker);
	loop_destroy(loop);
	for (unsigned i = 0; i < 2; i++) {
		close(gate[i]);
		close(arrived[i]);
	}
	close(file_fd);
}

struct job {
	struct disk_request r;
	struct iovec iov[2];
	struct disk_range range;
};

/* Reads @len bytes at @at to the same place in memory, in two parts. */
static struct disk_request *read_job(struct job *j, uint64_t at, size_t len)
{
	j->iov[0] = (struct iovec){ memory + at, len / 3 };
	j->iov[1] = (struct iovec){ memory + at + len / 3, len - len / 3 };
	j->r = (struct disk_request){
		.op = DISK_READ,
		.fd = file_fd,
		.offset = at,
		.iov = j->iov,
		.n_iov = 2,
		.result = 1,
	};
	return &j->r;
}

static struct disk_request *range_job(struct job *j, enum disk_op op, uint64_t at, uint64_t len)
{
	j->range = (struct disk_range){ at, len };
	j->r = (struct disk_request){
		.op = op,
		.fd = file_fd,
		.stable = op == DISK_ZERO,
		.ranges = &j->range,
		.n_ranges = 1,
		.result = 1,
	};
	return &j->r;
}

static void count_call(struct disk_client *c)
{
	(void)c;
	calls++;
}

static void assert_read(uint64_t at, size_t len)
{
	for (size_t i = at; i < at + len; i++)
		assert_int_equal(memory[i], pattern(i));
}

static void wait_for_arrival(void)
{
	char c;

	assert_int_equal(read(arrived[0], &c, 1), 1);
}

static void open_gate(unsigned n)
{
	while (n--)
		assert_int_equal(write(gate[1], "", 1), 1);
}

/* What is finished while the I/O thread is busy comes back in one call, in order. */
static void completions_come_in_batches(void **state)
{
	struct disk_client c;
	struct job jobs[8];

	(void)state;
	begin();
	disk_client_init(&c, worker, count_call);
	for (unsigned i = 0; i < 8; i++)
		disk_client_submit(&c, read_job(&jobs[i], i * 4096, 4096));
	disk_client_wait(&c);
	assert_int_equal(loop_run_once(loop, 10000), 0);
	assert_int_equal(calls, 1);
	for (unsigned i = 0; i < 8; i++) {
		assert_ptr_equal(disk_client_take(&c), &jobs[i].r);
		assert_int_equal(jobs[i].r.result, 0);
	}
	assert_null(disk_client_take(&c));
	assert_read(0, 8 * 4096);
	assert_int_equal(loop_run_once(loop, 0), 0);
	assert_int_equal(calls, 1);
	end();
}

static void *let_go(void *arg)
{
	open_gate(*(unsigned *)arg);
	return NULL;
}

/* What runs is waited for, the rest is forgotten; another client's requests are not. */
static void cancelling_waits_for_what_runs(void **state)
{
	struct disk_client a, b;
	struct job jobs[4];
	unsigned all = 4;
	long long now;
	pthread_t t;

	(void)state;
	begin();
	disk_client_init(&a, worker, count_call);
	disk_client_init(&b, worker, count_call);
	held = true;
	for (unsigned i = 0; i < 3; i++)
		disk_client_submit(&a, read_job(&jobs[i], i * 4096, 4096));
	disk_client_submit(&b, read_job(&jobs[3], 3 * 4096, 4096));
	wait_for_arrival();
	assert_int_equal(running, 0);
	assert_int_equal(pthread_create(&t, NULL, let_go, &all), 0);
	disk_client_cancel(&a);
	now = running;
	assert_true(now == -1 || now == 3 * 4096);
	assert_null(disk_client_take(&a));
	assert_int_equal(a.unfinished, 0);
	disk_client_wait(&b);
	assert_ptr_equal(disk_client_take(&b), &jobs[3].r);
	pthread_join(t, NULL);
	/* The wake-up that is left calls no client that has nothing. */
	while (calls == 0)
		assert_int_equal(loop_run_once(loop, 10000), 0);
	disk_client_cancel(&a);
	disk_client_cancel(&b);
	end();
}

static void short_and_interrupted_calls_go_on(void **state)
{
	struct disk_client c;
	struct job jobs[2];

	(void)state;
	begin();
	disk_client_init(&c, worker, count_call);
	cut = 1000;
	interrupted = true;
	disk_client_submit(&c, read_job(&jobs[0], 512, 65536));
	disk_client_wait(&c);
	assert_ptr_equal(disk_client_take(&c), &jobs[0].r);
	assert_int_equal(jobs[0].r.result, 0);
	assert_int_equal(memory[511], 0);
	assert_read(512, 65536);
	assert_int_equal(memory[512 + 65536], 0);
	/* The end of the file is in the middle of it. */
	assert_int_equal(ftruncate(file_fd, FILE_BYTES - 1), 0);
	disk_client_submit(&c, read_job(&jobs[1], FILE_BYTES - 4096, 4096));
	disk_client_wait(&c);
	assert_ptr_equal(disk_client_take(&c), &jobs[1].r);
	assert_int_equal(jobs[1].r.result, -EIO);
	end();
}

static void what_is_not_cached_is_left_to_the_worker(void **state)
{
	struct disk_client c;
	struct job j;

	(void)state;
	begin();
	disk_client_init(&c, worker, count_call);
	/* All of it; then nothing; then a part, of which the worker does the rest. */
	assert_true(disk_request_try(read_job(&j, 0, 4096)));
	assert_int_equal(j.r.result, 0);
	assert_read(0, 4096);
	nowait_errno = EOPNOTSUPP;
	assert_false(disk_request_try(read_job(&j, 4096, 4096)));
	assert_int_equal(memory[4096], 0);
	nowait_errno = EAGAIN;
	cut = 700;
	reads = 0;
	assert_false(disk_request_try(read_job(&j, 4096, 4096)));
	assert_read(4096, 700);
	assert_int_equal(memory[4096 + 700], 0);
	disk_client_submit(&c, &j.r);
	disk_client_wait(&c);
	assert_ptr_equal(disk_client_take(&c), &j.r);
	assert_int_equal(j.r.result, 0);
	assert_read(4096, 4096);
	/* An error is no reason to ask again. */
	nowait_errno = EIO;
	assert_true(disk_request_try(read_job(&j, 0, 4096)));
	assert_int_equal(j.r.result, -EIO);
	end();
}

static void assert_file(uint64_t from, size_t len, bool zero)
{
	static uint8_t got[FILE_BYTES];

	assert_int_equal(pread(file_fd, got, len, (off_t)from), len);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(got[i], zero ? 0 : pattern(from + i));
}

/* Without holes in files, DISCARD does nothing and ZERO the work. */
static void a_file_system_without_holes_will_do(void **state)
{
	struct disk_client c;
	struct job j;

	(void)state;
	begin();
	disk_client_init(&c, worker, count_call);
	for (unsigned i = 0; i < 2; i++) {
		no_punch = i == 0;
		interrupted = true;
		disk_client_submit(&c, range_job(&j, DISK_DISCARD, 4096, 8192));
		disk_client_wait(&c);
		assert_ptr_equal(disk_client_take(&c), &j.r);
		assert_int_equal(j.r.result, 0);
		assert_file(4096, 8192, !no_punch);
		interrupted = true;
		disk_client_submit(&c, range_job(&j, DISK_ZERO, 100000, 70000));
		disk_client_wait(&c);
		assert_ptr_equal(disk_client_take(&c), &j.r);
		assert_int_equal(j.r.result, 0);
		assert_file(100000, 70000, true);
		assert_file(100000 - 512, 512, false);
		assert_file(170000, 512, false);
	}
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(completions_come_in_batches),
		TEST(cancelling_waits_for_what_runs),
		TEST(short_and_interrupted_calls_go_on),
		TEST(what_is_not_cached_is_left_to_the_worker),
		TEST(a_file_system_without_holes_will_do),
	};

	return test_run(tests);
}
