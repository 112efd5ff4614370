/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/test.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "sys/loop.h"
#include "sys/stream.h"

struct order {
	struct loop_timer timer;
	struct loop *loop;
	char name;
};

static char order_seen[16];

static void order_fire(struct loop_timer *t)
{
	struct order *o = container_of(t, struct order, timer);

	order_seen[strlen(order_seen)] = o->name;
	if (o->name == 'c')
		loop_stop(o->loop, 42);
}

static void timers_fire_in_order_and_can_be_cancelled(void **state)
{
	struct order o[4] = { { .name = 'c' }, { .name = 'a' }, { .name = 'x' }, { .name = 'b' } };
	const unsigned ms[4] = { 6, 0, 3, 2 };
	struct loop *l;

	(void)state;
	memset(order_seen, 0, sizeof(order_seen));
	assert_int_equal(loop_create(&l, NULL), 0);
	for (int i = 0; i < 4; i++) {
		o[i].loop = l;
		loop_timer_init(&o[i].timer, order_fire);
		loop_timer_set(l, &o[i].timer, ms[i]);
	}
	loop_timer_cancel(&o[2].timer);
	assert_int_equal(loop_run(l), 42);
	assert_string_equal(order_seen, "abc");
	loop_destroy(l);
}

static void noop_fire(struct loop_timer *t)
{
	(void)t;
}

/* The soonest timer is where the search for its own new place would begin. */
static void the_first_timer_can_be_set_again(void **state)
{
	struct loop_timer t[2];
	struct loop *l;

	(void)state;
	assert_int_equal(loop_create(&l, NULL), 0);
	for (int i = 0; i < 2; i++) {
		loop_timer_init(&t[i], noop_fire);
		loop_timer_set(l, &t[i], (uint64_t)(i + 1) * 60000);
	}
	loop_timer_set(l, &t[0], 180000);
	assert_true(t[0].at_ns > t[1].at_ns);
	assert_ptr_equal(t[1].link.next, &t[0].link);
	loop_timer_cancel(&t[0]);
	loop_timer_cancel(&t[1]);
	loop_destroy(l);
}

struct pair {
	struct loop_watch watch[2];
	int fds[2][2];
	int calls;
};

static struct pair *pair_now;

static void pair_remove_other(struct loop_watch *w, uint32_t events)
{
	(void)events;
	pair_now->calls++;
	loop_watch_remove(&pair_now->watch[w == &pair_now->watch[0]]);
}

/* Both are ready in one epoll_wait; whichever comes first removes the other. */
static void a_removed_watch_is_not_called(void **state)
{
	struct pair p = { .calls = 0 };
	struct loop *l;

	(void)state;
	pair_now = &p;
	assert_int_equal(loop_create(&l, NULL), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pipe(p.fds[i]), 0);
		assert_int_equal(write(p.fds[i][1], "x", 1), 1);
		loop_watch_init(&p.watch[i], pair_remove_other);
		assert_int_equal(loop_watch_add(l, &p.watch[i], p.fds[i][0], EPOLLIN), 0);
	}
	assert_int_equal(loop_run_once(l, 1000), 0);
	assert_int_equal(p.calls, 1);
	for (int i = 0; i < 2; i++) {
		loop_watch_remove(&p.watch[i]);
		close(p.fds[i][0]);
		close(p.fds[i][1]);
	}
	loop_destroy(l);
}

struct echo {
	struct stream stream;
	struct loop *loop;
	size_t got;
	int closed, error;
};

static int echo_data(struct stream *s)
{
	struct echo *e = container_of(s, struct echo, stream);

	e->got += buf_len(&s->in);
	buf_append(&s->out, buf_data(&s->in), buf_len(&s->in));
	buf_consume(&s->in, buf_len(&s->in));
	stream_flush(s);
	return 0;
}

static void echo_close(struct stream *s, int error)
{
	struct echo *e = container_of(s, struct echo, stream);

	e->closed++;
	e->error = error;
	stream_fini(s);
	loop_stop(e->loop, 0);
}

static void stream_passes_more_than_a_socket_holds(void **state)
{
	enum { TOTAL = 8 << 20 };
	struct echo e = { .got = 0 };
	uint8_t *sent = malloc(TOTAL), *back = malloc(TOTAL);
	size_t out = 0, in = 0;
	int sv[2];

	(void)state;
	assert_non_null(sent);
	assert_non_null(back);
	for (size_t i = 0; i < TOTAL; i++)
		sent[i] = (uint8_t)(i * 2654435761u >> 23);
	assert_int_equal(loop_create(&e.loop, NULL), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv), 0);
	e.stream.on_data = echo_data;
	e.stream.on_close = echo_close;
	assert_int_equal(stream_init(&e.stream, e.loop, sv[0], 0, 0, NULL), 0);
	while (in < TOTAL) {
		ssize_t n = out < TOTAL ? write(sv[1], sent + out, TOTAL - out) : 0;

		if (n > 0)
			out += (size_t)n;
		assert_int_equal(loop_run_once(e.loop, 0), 0);
		n = read(sv[1], back + in, TOTAL - in);
		if (n > 0)
			in += (size_t)n;
	}
	assert_memory_equal(sent, back, TOTAL);
	close(sv[1]);
	assert_int_equal(loop_run(e.loop), 0);
	assert_int_equal(e.closed, 1);
	assert_int_equal(e.error, 0);
	loop_destroy(e.loop);
	free(sent);
	free(back);
}

static int hold_data(struct stream *s)
{
	struct echo *e = container_of(s, struct echo, stream);

	e->got = buf_len(&s->in);
	return 0;
}

static void stream_stops_reading_at_its_bound(void **state)
{
	struct echo e = { .got = 0 };
	uint8_t bytes[4096] = { 0 };
	int sv[2];

	(void)state;
	assert_int_equal(loop_create(&e.loop, NULL), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv), 0);
	e.stream.on_data = hold_data;
	e.stream.on_close = echo_close;
	assert_int_equal(stream_init(&e.stream, e.loop, sv[0], 1000, 0, NULL), 0);
	assert_int_equal(write(sv[1], bytes, sizeof(bytes)), sizeof(bytes));
	for (int i = 0; i < 10; i++)
		assert_int_equal(loop_run_once(e.loop, 0), 0);
	assert_int_equal(e.got, 1000);
	buf_consume(&e.stream.in, 1000);
	stream_pause(&e.stream, true);
	stream_pause(&e.stream, false);
	for (int i = 0; i < 10; i++)
		assert_int_equal(loop_run_once(e.loop, 0), 0);
	assert_int_equal(e.got, 1000);
	stream_fini(&e.stream);
	stream_fini(&e.stream);
	close(sv[1]);
	loop_destroy(e.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(timers_fire_in_order_and_can_be_cancelled),
		TEST(the_first_timer_can_be_set_again),
		TEST(a_removed_watch_is_not_called),
		TEST(stream_passes_more_than_a_socket_holds),
		TEST(stream_stops_reading_at_its_bound),
	};

	return test_run(tests);
}
