/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/loop.h"

#include <errno.h>
#include <limits.h>
#include <time.h>

#define LOOP_BATCH 64

struct loop {
	int epfd;
	bool stop;
	int code;
	struct list timers; /* by time, soonest first */
	struct list pending; /* watches with events fetched and not delivered */
};

uint64_t loop_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int loop_create(struct loop **out, struct err *e)
{
	auto_free struct loop *l = calloc(1, sizeof(*l));

	if (!l)
		return err_errno(e, ENOMEM, "event loop");
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epfd < 0)
		return err_errno(e, errno, "event loop: epoll_create1");
	list_init(&l->timers);
	list_init(&l->pending);
	*out = take_ptr(&l);
	return 0;
}

void loop_destroy(struct loop *l)
{
	if (!l)
		return;
	close(l->epfd);
	free(l);
}

void loop_watch_init(struct loop_watch *w, void (*fn)(struct loop_watch *, uint32_t))
{
	*w = (struct loop_watch){ .fn = fn, .fd = -1 };
	list_init(&w->pending);
}

int loop_watch_add(struct loop *l, struct loop_watch *w, int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };

	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	w->fd = fd;
	w->events = events;
	w->loop = l;
	return 0;
}

int loop_watch_set(struct loop_watch *w, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };

	if (w->fd < 0 || w->events == events)
		return 0;
	if (epoll_ctl(w->loop->epfd, EPOLL_CTL_MOD, w->fd, &ev) < 0)
		return -errno;
	w->events = events;
	return 0;
}

void loop_watch_remove(struct loop_watch *w)
{
	if (w->fd < 0)
		return;
	epoll_ctl(w->loop->epfd, EPOLL_CTL_DEL, w->fd, NULL);
	w->fd = -1;
	list_remove(&w->pending);
}

void loop_timer_init(struct loop_timer *t, void (*fn)(struct loop_timer *))
{
	*t = (struct loop_timer){ .fn = fn };
	list_init(&t->link);
}

void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t ms)
{
	struct list *at;

	loop_timer_cancel(t); /* first: it may be the one that the search would start at */
	at = l->timers.next;
	if (ms > UINT64_MAX / 2000000)
		ms = UINT64_MAX / 2000000;
	t->at_ns = loop_now_ns() + ms * 1000000;
	while (at != &l->timers && list_entry(at, struct loop_timer, link)->at_ns <= t->at_ns)
		at = at->next;
	list_insert(at, &t->link);
}

void loop_timer_cancel(struct loop_timer *t)
{
	list_remove(&t->link);
	t->at_ns = 0;
}

static int loop_wait_ms(struct loop *l, int timeout_ms)
{
	uint64_t now, at, ms;

	if (list_empty(&l->timers))
		return timeout_ms;
	now = loop_now_ns();
	at = list_entry(l->timers.next, struct loop_timer, link)->at_ns;
	ms = at > now ? (at - now + 999999) / 1000000 : 0;
	if (timeout_ms >= 0 && ms > (uint64_t)timeout_ms)
		return timeout_ms;
	return ms > INT_MAX ? INT_MAX : (int)ms;
}

static void loop_fire_timers(struct loop *l)
{
	uint64_t now = loop_now_ns();

	while (!list_empty(&l->timers)) {
		struct loop_timer *t = list_entry(l->timers.next, struct loop_timer, link);

		if (t->at_ns > now)
			return;
		loop_timer_cancel(t);
		t->fn(t);
	}
}

int loop_run_once(struct loop *l, int timeout_ms)
{
	struct epoll_event ev[LOOP_BATCH];
	int n = epoll_wait(l->epfd, ev, LOOP_BATCH, loop_wait_ms(l, timeout_ms));

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	/* Queued first, delivered second: a callback may remove a later one. */
	for (int i = 0; i < n; i++) {
		struct loop_watch *w = ev[i].data.ptr;

		w->ready = ev[i].events;
		list_append(&l->pending, &w->pending);
	}
	while (!list_empty(&l->pending)) {
		struct loop_watch *w = list_entry(l->pending.next, struct loop_watch, pending);

		list_remove(&w->pending);
		w->fn(w, w->ready);
	}
	loop_fire_timers(l);
	return 0;
}

int loop_run(struct loop *l)
{
	l->stop = false;
	while (!l->stop) {
		int rc = loop_run_once(l, -1);

		if (rc < 0)
			return rc;
	}
	return l->code;
}

void loop_stop(struct loop *l, int code)
{
	l->stop = true;
	l->code = code;
}
