/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   System calls on a disk's file may sleep for as long as the host's storage takes.  One
 *   thread makes them, one after the other, for all disks of the VM.
 *
 * Threads and locks
 *   worker->lock guards the lists and counters, never a system call on a file: it is held
 *   for some instructions at a time.  It comes after vdev->lock, which its callers may
 *   hold, and no callback is called with it.  The worker's thread takes no other lock, so
 *   waiting for it with vdev->lock held (disk_client_wait(), disk_client_cancel()) ends as
 *   soon as the host's storage answers.
 *
 *   Towards the thread: a condition variable, signalled only when the queue was empty.
 *   Back: an eventfd in the I/O thread's loop, written once until that thread has come to
 *   look (`told`), so that completions of a burst arrive in one wake-up.  Idle: both
 *   threads sleep.
 *
 * States
 *   A request is the client's -> queued -> running (at most one in all) -> finished ->
 *   taken, that is the client's again.  Cancelling takes queued and finished ones back at
 *   once and waits for the running one.
 *
 * Trust boundary
 *   The memory behind an iovec may be written by the guest at any time; only its contents
 *   are at risk.  Offsets and lengths were checked by the client.
 *
 * Failure
 *   Any failure is the request's result.  A read behind the end of the file is EIO: the
 *   device checked the range against the size at its creation, so somebody cut the file.
 *   Deallocating is a favour: a file system without it makes DISCARD do nothing, and ZERO
 *   write zeroes.
 *
 * Limits
 *   The thread has a stack of 64 KiB.  System calls: futex, preadv2, pwritev2, fdatasync,
 *   fallocate, write (eventfd).
 *
 * Not implemented
 *   io_uring: the jail refuses it, for it is the kernel's most attacked interface and a way
 *   around seccomp, and many hosts switch it off.  More than one thread: requests of one
 *   guest rarely overlap, and reads of cached data do not come here (disk_request_try()).
 */
#include "vmm/virtio/disk_worker.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifndef RWF_NOWAIT
#include <linux/fs.h>
#endif

#include "base/checked.h"
#include "sys/loop.h"
#include "vmm/confine.h"

#define DISK_STACK (64u * 1024)
#define DISK_ZEROES (64u * 1024)

struct disk_worker {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work; /* for the thread: the queue is not empty, or stop */
	pthread_cond_t done; /* for those who wait: a request is finished */
	struct list queue; /* of requests */
	struct list ready; /* of clients that have to be called */
	struct disk_client *running; /* whose request the thread is busy with */
	unsigned waiters; /* on `done` */
	bool told; /* the I/O thread has a wake-up that it did not read yet */
	bool stop;
	bool confine, confine_log; /* the thread has to confine itself, so */
	struct err confine_error; /* why it could not */
	int event_fd;
	struct loop_watch watch;
};

/* ---- the requests ------------------------------------------------------- */

/* Drops the first @n bytes of what is left to transfer. */
static void disk_request_advance(struct disk_request *r, size_t n)
{
	r->offset += n;
	while (r->n_iov && n >= r->iov->iov_len) {
		n -= r->iov->iov_len;
		r->iov++;
		r->n_iov--;
	}
	if (r->n_iov) {
		r->iov->iov_base = (uint8_t *)r->iov->iov_base + n;
		r->iov->iov_len -= n;
	}
}

/* Not every libc has wrappers for these two: musl got them in 1.2.5. */
static ssize_t disk_preadv2(int fd, const struct iovec *v, unsigned n, uint64_t at, int flags)
{
	return syscall(SYS_preadv2, fd, v, n, at, 0ul, flags);
}

static ssize_t disk_pwritev2(int fd, const struct iovec *v, unsigned n, uint64_t at, int flags)
{
	return syscall(SYS_pwritev2, fd, v, n, at, 0ul, flags);
}

/* Return: 0, -EAGAIN if RWF_NOWAIT was asked for and this would wait, another errno. */
static int disk_request_transfer(struct disk_request *r, int flags)
{
	while (r->n_iov) {
		ssize_t n;

		if (r->op == DISK_READ)
			n = disk_preadv2(r->fd, r->iov, r->n_iov, r->offset, flags);
		else
			n = disk_pwritev2(r->fd, r->iov, r->n_iov, r->offset, flags);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		disk_request_advance(r, (size_t)n);
	}
	return 0;
}

bool disk_request_try(struct disk_request *r)
{
	assert(r->op == DISK_READ);
	r->result = disk_request_transfer(r, RWF_NOWAIT);
	/* A file system that does not know the flag refuses it, as does an old kernel. */
	return r->result != -EAGAIN && r->result != -EOPNOTSUPP && r->result != -ENOSYS;
}

static int disk_write_zeroes(int fd, const struct disk_range *range, bool stable)
{
	static const uint8_t zeroes[DISK_ZEROES]; /* never written: the kernel's zero page */
	uint64_t offset = range->offset, left = range->len;

	while (left) {
		struct iovec iov = {
			.iov_base = (void *)(uintptr_t)zeroes,
			.iov_len = min_u64(left, sizeof(zeroes)),
		};
		ssize_t n = disk_pwritev2(fd, &iov, 1, offset, stable ? RWF_DSYNC : 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		offset += (size_t)n;
		left -= (size_t)n;
	}
	return 0;
}

static int disk_sync(int fd)
{
	return fdatasync(fd) < 0 ? -errno : 0;
}

/* DISCARD and ZERO: a hole in the sparse file reads as zeroes. */
static int disk_request_punch(const struct disk_request *r)
{
	for (unsigned i = 0; i < r->n_ranges; i++) {
		const struct disk_range *range = &r->ranges[i];
		int rc = 0;

		if (!range->len)
			continue;
		while (fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 (off_t)range->offset, (off_t)range->len) < 0) {
			rc = -errno;
			if (rc != -EINTR)
				break;
			rc = 0;
		}
		if (rc == -EOPNOTSUPP)
			rc = r->op == DISK_ZERO ? disk_write_zeroes(r->fd, range, r->stable) : 0;
		if (rc)
			return rc;
	}
	return r->stable ? disk_sync(r->fd) : 0;
}

static int disk_request_run(struct disk_request *r)
{
	switch (r->op) {
	case DISK_READ:
		return disk_request_transfer(r, 0);
	case DISK_WRITE:
		return disk_request_transfer(r, r->stable ? RWF_DSYNC : 0);
	case DISK_FLUSH:
		return disk_sync(r->fd);
	case DISK_DISCARD:
	case DISK_ZERO:
		return disk_request_punch(r);
	}
	return -EINVAL;
}

/* ---- the thread --------------------------------------------------------- */

static void disk_worker_wake_loop(struct disk_worker *w)
{
	const uint64_t one = 1;

	/* Fails only if the counter is full, when the loop is awake anyway. */
	if (write(w->event_fd, &one, sizeof(one)) < 0)
		return;
}

static void *disk_worker_main(void *arg)
{
	struct disk_worker *w = arg;

	pthread_setname_np(pthread_self(), "disk");
	pthread_mutex_lock(&w->lock);
	for (;;) {
		struct disk_request *r;
		struct disk_client *c;
		bool tell;
		int rc;

		while (list_empty(&w->queue) && !w->stop && !w->confine)
			pthread_cond_wait(&w->work, &w->lock);
		if (w->stop)
			break;
		if (w->confine) {
			vmm_confine_disk(w->confine_log, &w->confine_error);
			w->confine = false;
			pthread_cond_broadcast(&w->done);
			continue;
		}
		r = list_entry(w->queue.next, struct disk_request, link);
		list_remove(&r->link);
		w->running = c = r->client;
		pthread_mutex_unlock(&w->lock);

		rc = disk_request_run(r);

		pthread_mutex_lock(&w->lock);
		r->result = rc;
		w->running = NULL;
		c->unfinished--;
		list_append(&c->finished, &r->link);
		if (list_empty(&c->ready))
			list_append(&w->ready, &c->ready);
		if (w->waiters)
			pthread_cond_broadcast(&w->done);
		tell = !w->told;
		w->told = true;
		if (tell) {
			pthread_mutex_unlock(&w->lock);
			disk_worker_wake_loop(w);
			pthread_mutex_lock(&w->lock);
		}
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* I/O thread: calls each client that has finished requests, once. */
static void disk_worker_event(struct loop_watch *watch, uint32_t events)
{
	struct disk_worker *w = container_of(watch, struct disk_worker, watch);
	struct list batch;
	uint64_t count;

	(void)events;
	if (read(w->event_fd, &count, sizeof(count)) < 0)
		return; /* a spurious wake-up */
	list_init(&batch);
	pthread_mutex_lock(&w->lock);
	w->told = false;
	/* A client that gets ready from here on has a wake-up of its own. */
	while (!list_empty(&w->ready)) {
		struct list *first = w->ready.next;

		list_remove(first);
		list_append(&batch, first);
	}
	while (!list_empty(&batch)) {
		struct disk_client *c = list_entry(batch.next, struct disk_client, ready);

		list_remove(&c->ready);
		pthread_mutex_unlock(&w->lock);
		c->completed(c);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
}

static int disk_worker_start(struct disk_worker *w)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int rc = pthread_attr_init(&attr);

	if (rc)
		return rc;
	rc = pthread_attr_setstacksize(&attr, DISK_STACK);
	if (!rc) {
		/* Signals are the main thread's. */
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		rc = pthread_create(&w->thread, &attr, disk_worker_main, w);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	pthread_attr_destroy(&attr);
	return rc;
}

int disk_worker_create(struct disk_worker **out, struct loop *loop, struct err *e)
{
	auto_free struct disk_worker *w = calloc(1, sizeof(*w));
	auto_close int fd = -1;
	int rc;

	if (!w)
		return err_errno(e, ENOMEM, "disk worker");
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return err_errno(e, errno, "disk worker: eventfd");
	w->event_fd = fd;
	list_init(&w->queue);
	list_init(&w->ready);
	loop_watch_init(&w->watch, disk_worker_event);
	rc = loop_watch_add(loop, &w->watch, fd, EPOLLIN);
	if (rc)
		return err_errno(e, -rc, "disk worker: watch its eventfd");
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->work, NULL);
	pthread_cond_init(&w->done, NULL);
	rc = disk_worker_start(w);
	if (rc) {
		loop_watch_remove(&w->watch);
		pthread_cond_destroy(&w->done);
		pthread_cond_destroy(&w->work);
		pthread_mutex_destroy(&w->lock);
		return err_errno(e, rc, "disk worker: start its thread");
	}
	take_fd(&fd);
	*out = take_ptr(&w);
	return 0;
}

void disk_worker_confine(struct disk_worker *w, bool log_only)
{
	pthread_mutex_lock(&w->lock);
	w->confine = true;
	w->confine_log = log_only;
	pthread_cond_signal(&w->work);
	pthread_mutex_unlock(&w->lock);
}

int disk_worker_await_confined(struct disk_worker *w, struct err *e)
{
	int rc;

	pthread_mutex_lock(&w->lock);
	while (w->confine)
		pthread_cond_wait(&w->done, &w->lock);
	rc = w->confine_error.code ? err_set(e, w->confine_error.code, "the disks' thread: %s",
					     err_text(&w->confine_error))
				   : 0;
	pthread_mutex_unlock(&w->lock);
	return rc;
}

void disk_worker_destroy(struct disk_worker *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	assert(list_empty(&w->queue) && !w->running);
	w->stop = true;
	pthread_cond_signal(&w->work);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	loop_watch_remove(&w->watch);
	close(w->event_fd);
	pthread_cond_destroy(&w->done);
	pthread_cond_destroy(&w->work);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

/* ---- the clients -------------------------------------------------------- */

void disk_client_init(struct disk_client *c, struct disk_worker *w,
		      void (*completed)(struct disk_client *))
{
	*c = (struct disk_client){ .worker = w, .completed = completed };
	list_init(&c->finished);
	list_init(&c->ready);
}

void disk_client_submit(struct disk_client *c, struct disk_request *r)
{
	struct disk_worker *w = c->worker;

	r->client = c;
	pthread_mutex_lock(&w->lock);
	/* Not empty: the thread is awake, or about to be. */
	if (list_empty(&w->queue))
		pthread_cond_signal(&w->work);
	list_append(&w->queue, &r->link);
	c->unfinished++;
	pthread_mutex_unlock(&w->lock);
}

struct disk_request *disk_client_take(struct disk_client *c)
{
	struct disk_request *r = NULL;

	pthread_mutex_lock(&c->worker->lock);
	if (!list_empty(&c->finished)) {
		r = list_entry(c->finished.next, struct disk_request, link);
		list_remove(&r->link);
	}
	pthread_mutex_unlock(&c->worker->lock);
	return r;
}

/* Under the lock: waits for @c's requests, all or only the running one. */
static void disk_client_settle(struct disk_client *c, bool all)
{
	struct disk_worker *w = c->worker;

	w->waiters++;
	while (all ? c->unfinished > 0 : w->running == c)
		pthread_cond_wait(&w->done, &w->lock);
	w->waiters--;
}

void disk_client_wait(struct disk_client *c)
{
	pthread_mutex_lock(&c->worker->lock);
	disk_client_settle(c, true);
	pthread_mutex_unlock(&c->worker->lock);
}

void disk_client_cancel(struct disk_client *c)
{
	struct disk_worker *w = c->worker;

	pthread_mutex_lock(&w->lock);
	list_for_each (at, tmp, &w->queue) {
		if (list_entry(at, struct disk_request, link)->client == c) {
			list_remove(at);
			c->unfinished--;
		}
	}
	disk_client_settle(c, false);
	while (!list_empty(&c->finished))
		list_remove(c->finished.next);
	list_remove(&c->ready);
	pthread_mutex_unlock(&w->lock);
}
