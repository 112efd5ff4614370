/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_VMM_VIRTIO_DISK_WORKER_H
#define MSB_VMM_VIRTIO_DISK_WORKER_H

/*
 * The thread that waits for the disks of a VM, so that the I/O thread never does.
 *
 * A disk is a client.  It submits requests, which live in its own memory: nothing is
 * allocated here, and what is queued is bounded by what the clients have.  Finished
 * requests come back to the I/O thread, many per wake-up: client->completed() is called
 * there and takes them with disk_client_take().
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/list.h"

struct disk_client;
struct disk_worker;
struct loop;

enum disk_op { DISK_READ, DISK_WRITE, DISK_FLUSH, DISK_DISCARD, DISK_ZERO };

struct disk_range {
	uint64_t offset, len; /* bytes */
};

struct disk_request {
	enum disk_op op;
	int fd; /* of a regular file; not owned */
	bool stable; /* WRITE, ZERO: on the disk before it is finished */
	/* READ, WRITE: where, and the memory, usually the guest's; the entries get used up. */
	uint64_t offset;
	struct iovec *iov;
	unsigned n_iov;
	/* DISCARD, ZERO */
	const struct disk_range *ranges;
	unsigned n_ranges;

	int result; /* of a finished request: 0 or a negative errno */
	struct list link; /* the client's own while the request is not submitted */
	struct disk_client *client; /* set by disk_client_submit() */
};

struct disk_client {
	struct disk_worker *worker; /* not owned */
	/* I/O thread, no lock held: there are finished requests. */
	void (*completed)(struct disk_client *c);
	/* Under the worker's lock: */
	unsigned unfinished; /* queued or running */
	struct list finished;
	struct list ready; /* in the worker's list of clients to be called */
};

/* @loop: of the I/O thread; outlives the worker. */
int disk_worker_create(struct disk_worker **out, struct loop *loop, struct err *e);

/*
 * Has the thread confine itself (vmm/confine.h), and waits for that: two steps, so that
 * the caller can do other things meanwhile.  The guest may not run before the second.
 */
void disk_worker_confine(struct disk_worker *w, bool log_only);
int disk_worker_await_confined(struct disk_worker *w, struct err *e);

/* Ends the thread.  No client may have a request left (disk_client_cancel()). */
void disk_worker_destroy(struct disk_worker *w);

void disk_client_init(struct disk_client *c, struct disk_worker *w,
		      void (*completed)(struct disk_client *));

/* Hands @r over; it is the worker's until disk_client_take() returns it. */
void disk_client_submit(struct disk_client *c, struct disk_request *r);

/* A finished request, NULL if there is none. */
struct disk_request *disk_client_take(struct disk_client *c);

/* Returns when every request of @c is finished; they are there to be taken. */
void disk_client_wait(struct disk_client *c);

/*
 * Forgets every request of @c, begun or not, and returns when none of them touches memory
 * any more.  All of them are the client's again.  Any thread.
 */
void disk_client_cancel(struct disk_client *c);

/**
 * disk_request_try() - the part of a READ that needs no waiting
 *
 * Takes from the host's page cache what is there, in the caller's thread, without ever
 * sleeping on a disk.
 * Return: true if @r is finished, well or badly (@r->result).  false if it has to be
 * submitted: for the rest of it, or as a whole.
 */
bool disk_request_try(struct disk_request *r);

#endif
