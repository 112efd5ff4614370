/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SYS_LOOP_H
#define MSB_SYS_LOOP_H

/*
 * The event loop of every long-lived process: one thread, epoll, timers.
 *
 * A watch is embedded in the object that it serves; the callback gets the watch
 * and recovers its object with container_of().  A callback may remove and free
 * any watch or timer, its own included: events already fetched for a removed
 * watch are not delivered.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/err.h"
#include "base/list.h"

struct loop;

struct loop_watch {
	void (*fn)(struct loop_watch *w, uint32_t events);
	int fd; /* not owned; -1 = not watched */
	uint32_t events; /* EPOLLIN | EPOLLOUT as asked for */
	struct loop *loop;
	struct list pending;
	uint32_t ready;
};

struct loop_timer {
	void (*fn)(struct loop_timer *t);
	uint64_t at_ns; /* CLOCK_MONOTONIC; 0 = not armed */
	struct list link;
};

int loop_create(struct loop **out, struct err *e);
void loop_destroy(struct loop *l);

/* Must be called once before the other watch functions. */
void loop_watch_init(struct loop_watch *w, void (*fn)(struct loop_watch *, uint32_t));

/* Starts watching @fd; EPOLLERR and EPOLLHUP are always reported. */
int loop_watch_add(struct loop *l, struct loop_watch *w, int fd, uint32_t events);

/* Changes the events; cheap if nothing changes. 0 = errors and hang-up only. */
int loop_watch_set(struct loop_watch *w, uint32_t events);

/* Stops watching. Harmless if not watched. Call it before close(fd). */
void loop_watch_remove(struct loop_watch *w);

void loop_timer_init(struct loop_timer *t, void (*fn)(struct loop_timer *));

/* Fires once, @ms from now; re-arming moves it. */
void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t ms);
void loop_timer_cancel(struct loop_timer *t);

/* Runs until loop_stop(). Return: the code given to it, or a negative errno. */
int loop_run(struct loop *l);

/* Handles what is ready, waiting at most @timeout_ms (-1 = until something is). */
int loop_run_once(struct loop *l, int timeout_ms);
void loop_stop(struct loop *l, int code);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t loop_now_ns(void);

#endif
