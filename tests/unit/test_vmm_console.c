/* SPDX-License-Identifier: Apache-2.0 */
/* The console and its ports, driven by hand from the guest's side and the host's. */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_console.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "sys/loop.h"
#include "unit/loop_rest.h"
#include "unit/virtio_driver.h"
#include "vmm/virtio/console.h"

#define RAM_SIZE (4u << 20)
#define QUEUE_SIZE 32u
#define QUEUES(i) (0x1000u * (1 + (i))) /* the rings of queue i */
#define MSG 0x20000u /* control messages of the driver */
#define MSG_IN 0x21000u /* and for it, 64 bytes apart */
#define DATA 0x40000u
#define BULK 0x100000u
#define PORTS 3u
#define CTL 1u /* the port that most tests use */
#define CTL_RX 4u
#define CTL_TX 5u
#define FEATURES (DRV_F_VERSION_1 | 1ull << VIRTIO_CONSOLE_F_MULTIPORT)

static struct memory ram;
static struct loop *loop;
static struct vdev *console;
static struct drv_queue dq[2 * PORTS + 2];
static int host[PORTS]; /* the other ends */

static void *at(uint64_t gpa)
{
	return memory_at(&ram, gpa, 1);
}

static struct vdev *make_console(void)
{
	struct console_config c = {
		.name = "console",
		.n_ports = PORTS,
		.ports = { { .name = NULL }, { .name = "agent.ctl" }, { .name = "agent.bulk" } },
	};
	struct vdev *d;

	for (unsigned i = 0; i < PORTS; i++) {
		int sv[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
		assert_int_equal(fcntl(sv[1], F_SETFL, O_NONBLOCK), 0);
		c.ports[i].fd = sv[0];
		host[i] = sv[1];
	}
	assert_int_equal(console_create(&d, &c, &ram, loop, NULL), 0);
	return d;
}

static void turn(unsigned n)
{
	while (n--)
		assert_int_equal(loop_run_once(loop, 0), 0);
}

/* The driver's start: queues, and buffers for @messages control messages. */
static void attach(uint64_t features, unsigned messages)
{
	assert_true(drv_init(console, features));
	for (unsigned i = 0; i < ARRAY_SIZE(dq); i++) {
		drv_queue_init(&dq[i], &ram, QUEUES(i), QUEUE_SIZE);
		assert_true(drv_queue_attach(console, i, &dq[i]));
	}
	drv_ready(console);
	for (unsigned i = 0; i < messages; i++) {
		const struct drv_seg seg = { .addr = MSG_IN + 64 * i, .len = 64, .write = true };

		drv_send(&dq[2], &seg, 1);
	}
	vdev_kick(console, 2);
}

static void send_control(uint32_t id, uint16_t event, uint16_t value)
{
	const struct drv_seg seg = { .addr = MSG, .len = 8 };
	uint32_t used, len;

	drv_put32(&ram, MSG, id);
	drv_put16(&ram, MSG + 4, event);
	drv_put16(&ram, MSG + 6, value);
	drv_send(&dq[3], &seg, 1);
	vdev_kick(console, 3);
	assert_true(drv_used(&dq[3], &used, &len));
	assert_int_equal(len, 0);
}

/* Takes the next control message, which has to be this one. */
static void expect_control(uint32_t id, uint16_t event, uint16_t value, const char *name)
{
	uint32_t used, len;
	uint64_t gpa;

	assert_true(drv_used(&dq[2], &used, &len));
	gpa = MSG_IN + 64 * used;
	assert_int_equal(drv_get32(&ram, gpa), id);
	assert_int_equal(drv_get16(&ram, gpa + 4), event);
	assert_int_equal(drv_get16(&ram, gpa + 6), value);
	assert_int_equal(len, 8 + strlen(name));
	assert_memory_equal(at(gpa + 8), name, strlen(name));
}

static void expect_no_control(void)
{
	uint32_t used, len;

	assert_false(drv_used(&dq[2], &used, &len));
}

static void handshake(void)
{
	static const char *const names[PORTS] = { "", "agent.ctl", "agent.bulk" };

	send_control(0xffffffff, VIRTIO_CONSOLE_DEVICE_READY, 1);
	for (unsigned i = 0; i < PORTS; i++)
		expect_control(i, VIRTIO_CONSOLE_PORT_ADD, 1, "");
	for (unsigned i = 0; i < PORTS; i++) {
		send_control(i, VIRTIO_CONSOLE_PORT_READY, 1);
		if (i == 0)
			expect_control(0, VIRTIO_CONSOLE_CONSOLE_PORT, 1, "");
		else
			expect_control(i, VIRTIO_CONSOLE_PORT_NAME, 1, names[i]);
		expect_control(i, VIRTIO_CONSOLE_PORT_OPEN, 1, "");
		send_control(i, VIRTIO_CONSOLE_PORT_OPEN, 1);
	}
	expect_no_control();
}

static void begin_bare(void)
{
	assert_int_equal(memory_create(&ram, RAM_SIZE, -1, NULL), 0);
	assert_int_equal(loop_create(&loop, NULL), 0);
	console = make_console();
}

static void begin(void)
{
	begin_bare();
	attach(FEATURES, 24);
	handshake();
}

static void end(void)
{
	for (unsigned i = 0; i < PORTS; i++)
		close_fd(&host[i]);
	console->ops->destroy(console);
	loop_destroy(loop);
	memory_destroy(&ram);
}

/* Offers @len bytes at @gpa in queue @q. */
static void offer(unsigned q, uint64_t gpa, uint32_t len, bool write)
{
	const struct drv_seg seg = { .addr = gpa, .len = len, .write = write };

	drv_send(&dq[q], &seg, 1);
	vdev_kick(console, q);
}

static void assert_used(unsigned q, uint32_t want)
{
	uint32_t id, len;

	assert_true(drv_used(&dq[q], &id, &len));
	assert_int_equal(len, want);
}

static void assert_not_used(unsigned q)
{
	uint32_t id, len;

	assert_false(drv_used(&dq[q], &id, &len));
}

static void assert_host_gets(unsigned port, const char *text)
{
	char got[256];

	assert_int_equal(read(host[port], got, sizeof(got)), strlen(text));
	assert_memory_equal(got, text, strlen(text));
}

/* Fills the guest's BULK with numbers. */
static uint8_t pattern(size_t i)
{
	return (uint8_t)((i * 2654435761u) >> 19);
}

/* ---- ports -------------------------------------------------------------- */

static void ports_are_announced(void **state)
{
	(void)state;
	begin();
	assert_int_equal(drv_read(console, DRV_DEVICE_ID), 3);
	assert_int_equal(drv_read(console, DRV_CONFIG + 4), PORTS);
	/* Said again, nothing is added again. */
	send_control(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	expect_no_control();
	end();
}

static void messages_wait_for_buffers(void **state)
{
	(void)state;
	begin_bare();
	attach(FEATURES, 1);
	send_control(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	expect_control(0, VIRTIO_CONSOLE_PORT_ADD, 1, "");
	expect_no_control();
	for (unsigned i = 1; i < PORTS; i++) {
		offer(2, MSG_IN + 64 * i, 64, true);
		expect_control(i, VIRTIO_CONSOLE_PORT_ADD, 1, "");
	}
	end();
}

static void a_driver_without_multiport_has_a_console(void **state)
{
	(void)state;
	begin_bare();
	attach(DRV_F_VERSION_1, 0);
	memcpy(at(DATA), "hello", 5);
	offer(1, DATA, 5, false);
	assert_used(1, 0);
	assert_host_gets(0, "hello");
	offer(0, DATA + 4096, 64, true);
	assert_int_equal(write(host[0], "input", 5), 5);
	turn(2);
	assert_used(0, 5);
	assert_memory_equal(at(DATA + 4096), "input", 5);
	/* The other queues do nothing. */
	offer(CTL_TX, DATA, 5, false);
	offer(3, MSG, 8, false);
	assert_not_used(CTL_TX);
	assert_not_used(3);
	assert_false(drv_broken(console));
	end();
}

/* ---- data --------------------------------------------------------------- */

static void bytes_go_both_ways(void **state)
{
	const struct drv_seg segs[] = { { .addr = DATA, .len = 3 },
					{ .addr = DATA + 100, .len = 4 } };

	(void)state;
	begin();
	memcpy(at(DATA), "foo", 3);
	memcpy(at(DATA + 100), "barr", 4);
	drv_send(&dq[CTL_TX], segs, 2);
	vdev_kick(console, CTL_TX);
	assert_used(CTL_TX, 0);
	assert_host_gets(CTL, "foobarr");
	/* Towards the guest: buffers first, then bytes; and the other way round. */
	offer(CTL_RX, DATA, 4, true);
	offer(CTL_RX, DATA + 16, 16, true);
	assert_int_equal(write(host[CTL], "abcdefg", 7), 7);
	turn(2);
	assert_used(CTL_RX, 4);
	assert_used(CTL_RX, 3);
	assert_memory_equal(at(DATA), "abcd", 4);
	assert_memory_equal(at(DATA + 16), "efg", 3);
	assert_int_equal(write(host[CTL], "xyz", 3), 3);
	turn(3);
	assert_not_used(CTL_RX);
	offer(CTL_RX, DATA, 16, true);
	turn(2);
	assert_used(CTL_RX, 3);
	assert_memory_equal(at(DATA), "xyz", 3);
	end();
}

/* More than a socket holds: the rest stays in the queue, byte by byte the same. */
static void a_full_socket_holds_the_queue(void **state)
{
	enum { CHUNK = 64 << 10, N = 16 };
	uint8_t *got = malloc(CHUNK * N);
	size_t in = 0;

	(void)state;
	assert_non_null(got);
	begin();
	for (size_t i = 0; i < CHUNK * N; i++)
		((uint8_t *)at(BULK))[i] = pattern(i);
	for (unsigned i = 0; i < N; i++)
		offer(CTL_TX, BULK + CHUNK * i, CHUNK, false);
	turn(3);
	assert_true(dq[CTL_TX].used_seen < N);
	assert_true(loop_at_rest(loop));
	/* Another port is not held up. */
	memcpy(at(DATA), "bulk", 4);
	offer(7, DATA, 4, false);
	assert_used(7, 0);
	assert_host_gets(2, "bulk");
	while (in < CHUNK * N) {
		ssize_t n = read(host[CTL], got + in, CHUNK * N - in);

		if (n > 0)
			in += (size_t)n;
		else
			assert_int_equal(loop_run_once(loop, 1000), 0);
	}
	turn(2);
	for (unsigned i = 0; i < N; i++)
		assert_used(CTL_TX, 0);
	for (size_t i = 0; i < CHUNK * N; i++)
		assert_int_equal(got[i], pattern(i));
	end();
	free(got);
}

static void without_buffers_the_socket_waits(void **state)
{
	uint8_t bytes[4096];
	size_t written = 0, got = 0;
	uint32_t id, len;

	(void)state;
	begin();
	/* Fill the socket to the brim. */
	for (;;) {
		ssize_t n;

		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = pattern(written + i);
		n = write(host[CTL], bytes, sizeof(bytes));
		if (n < 0)
			break;
		written += (size_t)n;
		turn(1);
	}
	assert_int_equal(errno, EAGAIN);
	assert_true(loop_at_rest(loop));
	while (got < written) {
		const uint32_t room = 1000 + (uint32_t)got % 7000;

		offer(CTL_RX, DATA, room, true);
		turn(1);
		while (drv_used(&dq[CTL_RX], &id, &len)) {
			for (size_t i = 0; i < len; i++)
				assert_int_equal(((uint8_t *)at(DATA))[i], pattern(got + i));
			got += len;
		}
	}
	assert_int_equal(got, written);
	end();
}

static void a_closed_guest_port_reads_nothing(void **state)
{
	(void)state;
	begin();
	send_control(CTL, VIRTIO_CONSOLE_PORT_OPEN, 0);
	offer(CTL_RX, DATA, 64, true);
	assert_int_equal(write(host[CTL], "later", 5), 5);
	turn(3);
	assert_not_used(CTL_RX);
	assert_true(loop_at_rest(loop));
	send_control(CTL, VIRTIO_CONSOLE_PORT_OPEN, 1);
	turn(2);
	assert_used(CTL_RX, 5);
	end();
}

/* hvc0 spins until its output is taken: it is, whether there is a reader or not. */
static void console_output_never_waits(void **state)
{
	unsigned taken = 0;
	uint32_t id, len;

	(void)state;
	begin();
	for (unsigned i = 0; i < 40; i++) {
		offer(1, BULK, 64 << 10, false);
		while (drv_used(&dq[1], &id, &len))
			taken++;
		assert_int_equal(taken, i + 1);
	}
	assert_true(loop_at_rest(loop));
	close_fd(&host[0]);
	turn(2);
	offer(1, BULK, 64, false);
	assert_used(1, 0);
	assert_true(loop_at_rest(loop));
	end();
}

static void a_half_closed_console_writes_on(void **state)
{
	(void)state;
	begin();
	offer(0, DATA, 64, true);
	assert_int_equal(shutdown(host[0], SHUT_WR), 0);
	turn(3);
	expect_no_control();
	memcpy(at(DATA), "log", 3);
	offer(1, DATA, 3, false);
	assert_host_gets(0, "log");
	assert_true(loop_at_rest(loop));
	close_fd(&host[0]);
	turn(2);
	expect_control(0, VIRTIO_CONSOLE_PORT_OPEN, 0, "");
	end();
}

/* ---- the host leaves ---------------------------------------------------- */

static void the_end_of_the_host_closes_the_port(void **state)
{
	(void)state;
	begin();
	assert_int_equal(write(host[CTL], "last words", 10), 10);
	close_fd(&host[CTL]);
	turn(3);
	/* First what it said, for which there are no buffers yet. */
	expect_no_control();
	assert_true(loop_at_rest(loop));
	offer(CTL_TX, DATA, 10, false);
	assert_used(CTL_TX, 0);
	offer(CTL_RX, DATA, 64, true);
	turn(2);
	assert_used(CTL_RX, 10);
	assert_memory_equal(at(DATA), "last words", 10);
	offer(CTL_RX, DATA, 64, true);
	turn(2);
	expect_control(CTL, VIRTIO_CONSOLE_PORT_OPEN, 0, "");
	assert_not_used(CTL_RX);
	/* What the guest sends to nobody does not pile up. */
	offer(CTL_TX, BULK, 1 << 20, false);
	assert_used(CTL_TX, 0);
	assert_true(loop_at_rest(loop));
	end();
}

static void a_blocked_port_whose_host_leaves_is_free(void **state)
{
	(void)state;
	begin();
	offer(CTL_RX, DATA, 64, true);
	offer(CTL_TX, BULK, 1 << 20, false);
	turn(2);
	assert_not_used(CTL_TX);
	close_fd(&host[CTL]);
	turn(3);
	assert_used(CTL_TX, 0);
	expect_control(CTL, VIRTIO_CONSOLE_PORT_OPEN, 0, "");
	assert_true(loop_at_rest(loop));
	end();
}

/* ---- hostile drivers ---------------------------------------------------- */

static void odd_messages_are_ignored(void **state)
{
	(void)state;
	begin();
	send_control(PORTS, VIRTIO_CONSOLE_PORT_OPEN, 1);
	send_control(0xffffffff, VIRTIO_CONSOLE_PORT_READY, 1);
	send_control(1, VIRTIO_CONSOLE_PORT_READY, 0);
	send_control(1, 0xffff, 1);
	send_control(0, VIRTIO_CONSOLE_DEVICE_READY, 0);
	expect_no_control();
	assert_false(drv_broken(console));
	/* Repeated, it is answered as often as there are buffers, not more. */
	for (unsigned i = 0; i < 1000; i++)
		send_control(1, VIRTIO_CONSOLE_PORT_READY, 1);
	assert_true(dq[2].avail_idx - drv_get16(&ram, dq[2].used + 2) == 0);
	end();
}

static void malformed_chains_break_the_device(void **state)
{
	static const struct {
		unsigned queue;
		struct drv_seg seg;
	} cases[] = {
		{ 1, { DATA, 8, true } }, /* to be written by us, in a transmit queue */
		{ 3, { MSG, 8, true } },
		{ 3, { MSG, 7, false } }, /* short */
		{ CTL_TX, { DATA, 1, true } },
		{ CTL_RX, { DATA, 8, false } },
		{ CTL_TX, { RAM_SIZE - 8, 9, false } },
	};

	(void)state;
	begin();
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct drv_seg *s = &cases[i].seg;

		assert_int_equal(write(host[CTL], "x", 1), 1);
		offer(cases[i].queue, s->addr, s->len, s->write);
		turn(2);
		assert_true(drv_broken(console));
		assert_true(loop_at_rest(loop));
		attach(FEATURES, 24);
		handshake();
		offer(CTL_RX, DATA, 64, true);
		turn(2);
		assert_used(CTL_RX, 1);
	}
	end();
	/* A control message that does not fit into the buffer for it. */
	begin_bare();
	attach(FEATURES, 0);
	offer(2, MSG_IN, 7, true);
	send_control(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	assert_true(drv_broken(console));
	end();
}

/* ---- reset, snapshot ---------------------------------------------------- */

static void a_reset_forgets_the_guest(void **state)
{
	(void)state;
	begin();
	offer(CTL_TX, BULK, 1 << 20, false); /* blocks in the middle */
	assert_not_used(CTL_TX);
	drv_write(console, DRV_STATUS, 0);
	assert_true(loop_at_rest(loop));
	attach(FEATURES, 24);
	handshake();
	/* From the start, not from where the old chain was. */
	memcpy(at(DATA), "new", 3);
	offer(CTL_TX, DATA, 3, false);
	for (;;) {
		static uint8_t got[1 << 20];
		ssize_t n = read(host[CTL], got, sizeof(got));

		assert_true(n > 0);
		turn(1);
		if (n >= 3 && !memcmp(got + n - 3, "new", 3))
			break;
	}
	assert_used(CTL_TX, 0);
	end();
}

static void a_restored_console_goes_on(void **state)
{
	enum { BYTES = 1 << 20 };
	struct buf blob = BUF_INIT;
	uint8_t *got = malloc(BYTES);
	struct vdev *old;
	int old_host[PORTS];
	size_t in;
	ssize_t n;

	(void)state;
	assert_non_null(got);
	begin();
	for (size_t i = 0; i < BYTES; i++)
		((uint8_t *)at(BULK))[i] = pattern(i);
	offer(CTL_TX, BULK, BYTES, false);
	assert_not_used(CTL_TX);
	vdev_drain(console);
	assert_int_equal(write(host[CTL], "x", 1), 1);
	assert_true(loop_at_rest(loop));
	assert_int_equal(vdev_save(console, &blob), 0);
	for (in = 0; (n = read(host[CTL], got + in, BYTES - in)) > 0;)
		in += (size_t)n;
	memcpy(old_host, host, sizeof(host));
	old = console;
	console = make_console();
	assert_int_equal(vdev_load(console, buf_data(&blob), buf_len(&blob), NULL), 0);
	/* One of the new sockets has nobody behind it. */
	vdev_undrain(console);
	while (in < BYTES) {
		n = read(host[CTL], got + in, BYTES - in);
		if (n > 0)
			in += (size_t)n;
		else
			assert_int_equal(loop_run_once(loop, 1000), 0);
	}
	for (size_t i = 0; i < BYTES; i++)
		assert_int_equal(got[i], pattern(i));
	turn(1);
	assert_used(CTL_TX, 0);
	/* The ports are still open: no new handshake. */
	expect_no_control();
	offer(CTL_RX, DATA, 64, true);
	assert_int_equal(write(host[CTL], "again", 5), 5);
	turn(2);
	assert_used(CTL_RX, 5);
	old->ops->destroy(old);
	for (unsigned i = 0; i < PORTS; i++)
		close(old_host[i]);
	buf_fini(&blob);
	end();
	free(got);
}

static void hostile_states_are_refused(void **state)
{
	struct buf blob = BUF_INIT;
	uint8_t *bytes;
	size_t own, len;

	(void)state;
	begin();
	vdev_drain(console);
	assert_int_equal(vdev_save(console, &blob), 0);
	end();
	len = buf_len(&blob);
	own = len - PORTS * (CONSOLE_NAME_MAX + 1 + 8);
	bytes = malloc(len);
	assert_non_null(bytes);
	for (unsigned i = 0; i < 4; i++) {
		size_t given = len;

		begin_bare();
		memcpy(bytes, buf_data(&blob), len);
		if (i == 0)
			given--;
		else if (i == 1)
			bytes[own + CONSOLE_NAME_MAX + 1 + 8] = 'b'; /* another name */
		else if (i == 2)
			bytes[own + CONSOLE_NAME_MAX + 1 + 3] = 0x80; /* an unknown flag */
		else
			bytes[own + CONSOLE_NAME_MAX + 1] = 0x1f;
		assert_int_equal(vdev_load(console, bytes, given, NULL), -EINVAL);
		end();
	}
	free(bytes);
	buf_fini(&blob);
}

static void only_stream_sockets_are_ports(void **state)
{
	struct vdev *d = NULL;
	int sv[2];

	(void)state;
	begin_bare();
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, sv), 0);
	const struct console_config cases[] = {
		{ .name = "c", .n_ports = 0 },
		{ .name = "c", .n_ports = CONSOLE_PORTS_MAX + 1 },
		{ .name = "c", .n_ports = 1, .ports = { { .fd = sv[0] } } },
		{ .name = "c", .n_ports = 1, .ports = { { .fd = 1023 } } },
		{ .name = "c", .n_ports = 2, .ports = { { .fd = -1 }, { .fd = -1, .name = "" } } },
		{ .name = "c",
		  .n_ports = 2,
		  .ports = { { .fd = -1 },
			     { .fd = -1, .name = "a name that is longer than a name" } } },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err e = ERR_INIT;

		assert_int_equal(console_create(&d, &cases[i], &ram, loop, &e), -EINVAL);
		assert_true(strlen(e.msg) > 10);
	}
	assert_null(d);
	close(sv[0]);
	close(sv[1]);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(ports_are_announced),
		TEST(messages_wait_for_buffers),
		TEST(a_driver_without_multiport_has_a_console),
		TEST(bytes_go_both_ways),
		TEST(a_full_socket_holds_the_queue),
		TEST(without_buffers_the_socket_waits),
		TEST(a_closed_guest_port_reads_nothing),
		TEST(console_output_never_waits),
		TEST(a_half_closed_console_writes_on),
		TEST(the_end_of_the_host_closes_the_port),
		TEST(a_blocked_port_whose_host_leaves_is_free),
		TEST(odd_messages_are_ignored),
		TEST(malformed_chains_break_the_device),
		TEST(a_reset_forgets_the_guest),
		TEST(a_restored_console_goes_on),
		TEST(hostile_states_are_refused),
		TEST(only_stream_sockets_are_ports),
	};

	return test_run(tests);
}
