/* SPDX-License-Identifier: Apache-2.0 */
/* The network card, driven by hand from the guest's side and from msb-net's. */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "sys/loop.h"
#include "unit/loop_rest.h"
#include "unit/virtio_driver.h"
#include "vmm/virtio/net.h"

#define RAM_SIZE (8u << 20)
#define QUEUE_SIZE 128u
#define RX 0u
#define TX 1u
#define DATA 0x100000u /* of the driver, to send */
#define BUFFERS 0x400000u /* and to receive */
#define HEADER 12u
#define FRAME_MAX (NET_MTU + 18)
#define WIRE_MAX 69632u

#define F(bit) (1ull << (bit))
#define FEATURES \
	(DRV_F_VERSION_1 | F(VIRTIO_NET_F_MAC) | F(VIRTIO_NET_F_MTU) | F(VIRTIO_NET_F_STATUS))
#define FEATURES_MERGE (FEATURES | F(VIRTIO_NET_F_MRG_RXBUF) | DRV_F_EVENT_IDX)

static struct memory ram;
static struct loop *loop;
static struct vdev *card;
static struct drv_queue dq[2];
static int peer;
static unsigned lost;
static int lost_error;

static void *at(uint64_t gpa)
{
	return memory_at(&ram, gpa, 1);
}

static uint8_t pattern(size_t i)
{
	return (uint8_t)((i * 2654435761u) >> 19);
}

static void on_lost(void *arg, int error)
{
	assert_ptr_equal(arg, &lost);
	lost++;
	lost_error = error;
}

static struct vdev *make_card(void)
{
	struct net_config c = {
		.name = "net",
		.mac = { 2, 0, 0, 0, 0, 15 },
		.lost = on_lost,
		.arg = &lost,
	};
	struct vdev *d;
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(fcntl(sv[1], F_SETFL, O_NONBLOCK), 0);
	c.fd = sv[0];
	peer = sv[1];
	assert_int_equal(net_create(&d, &c, &ram, loop, NULL), 0);
	return d;
}

static void attach(uint64_t features)
{
	assert_true(drv_init(card, features));
	for (unsigned i = 0; i < 2; i++) {
		drv_queue_init(&dq[i], &ram, 0x1000 + 0x4000 * i, QUEUE_SIZE);
		assert_true(drv_queue_attach(card, i, &dq[i]));
	}
	drv_ready(card);
}

static void begin(uint64_t features)
{
	lost = 0;
	lost_error = -1;
	assert_int_equal(memory_create(&ram, RAM_SIZE, -1, NULL), 0);
	assert_int_equal(loop_create(&loop, NULL), 0);
	card = make_card();
	attach(features);
	for (size_t i = 0; i < 128 << 10; i++)
		((uint8_t *)at(DATA))[HEADER + i] = pattern(i);
}

static void end(void)
{
	close_fd(&peer);
	card->ops->destroy(card);
	loop_destroy(loop);
	memory_destroy(&ram);
}

static void turn(unsigned n)
{
	while (n--)
		assert_int_equal(loop_run_once(loop, 0), 0);
}

/* Offers receive buffer number @i, of @len bytes. */
static void offer_rx(unsigned i, uint32_t len)
{
	const struct drv_seg seg = { .addr = BUFFERS + 0x2000 * i, .len = len, .write = true };

	memset(at(seg.addr), 0xee, len);
	drv_send(&dq[RX], &seg, 1);
	vdev_kick(card, RX);
}

/* Sends @len bytes of DATA, header included. */
static void send_tx(uint32_t len)
{
	const struct drv_seg segs[] = { { .addr = DATA, .len = HEADER },
					{ .addr = DATA + HEADER, .len = len - HEADER } };

	drv_send(&dq[TX], segs, len > HEADER ? 2 : 1);
	vdev_kick(card, TX);
}

static bool used(unsigned q, uint32_t *len)
{
	uint32_t id;

	return drv_used(&dq[q], &id, len);
}

/* The peer sends a frame of @len bytes, of which the first is number @from. */
static void peer_sends(size_t from, uint32_t len)
{
	uint8_t *wire = malloc(4 + (size_t)len);
	const uint32_t prefix = htobe32(len);
	size_t sent = 0;

	assert_non_null(wire);
	memcpy(wire, &prefix, 4);
	for (size_t i = 0; i < len; i++)
		wire[4 + i] = pattern(from + i);
	while (sent < 4 + (size_t)len) {
		ssize_t n = write(peer, wire + sent, 4 + len - sent);

		if (n > 0)
			sent += (size_t)n;
		else
			assert_int_equal(errno, EAGAIN);
		turn(1);
	}
	free(wire);
}

/* What the peer can read, up to @want bytes, until nothing comes any more. */
static size_t peer_reads(uint8_t *to, size_t want)
{
	bool idle = false;
	size_t got = 0;

	while (got < want) {
		ssize_t n = read(peer, to + got, want - got);

		if (n > 0)
			got += (size_t)n;
		else if (idle)
			break;
		/* It may have room for more now. */
		idle = n <= 0 && loop_at_rest(loop);
	}
	return got;
}

/* ---- what works --------------------------------------------------------- */

static void the_configuration_tells_the_card(void **state)
{
	static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 15 };
	uint8_t b[12];

	(void)state;
	begin(FEATURES);
	assert_int_equal(drv_read(card, DRV_DEVICE_ID), 1);
	vdev_mmio_read(card, DRV_CONFIG, b, 12);
	assert_memory_equal(b, mac, 6);
	assert_int_equal(b[6], VIRTIO_NET_S_LINK_UP);
	assert_int_equal(b[10] | b[11] << 8, 65520);
	end();
}

static void frames_are_sent(void **state)
{
	static const uint32_t sizes[] = { 14, 60, 1514, NET_MTU + 14, FRAME_MAX };
	static uint8_t wire[4 + FRAME_MAX];
	uint32_t len;

	(void)state;
	begin(FEATURES);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		send_tx(HEADER + sizes[i]);
		assert_true(used(TX, &len));
		assert_int_equal(len, 0);
		assert_int_equal(peer_reads(wire, 4 + sizes[i]), 4 + sizes[i]);
		assert_int_equal(be32toh(*(uint32_t *)(void *)wire), sizes[i]);
		for (size_t k = 0; k < sizes[i]; k++)
			assert_int_equal(wire[4 + k], pattern(k));
	}
	end();
}

static void assert_frame(uint64_t gpa, uint32_t len, size_t from, unsigned buffers)
{
	const uint8_t *p = at(gpa);

	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(p[i], 0);
	assert_int_equal(p[10] | p[11] << 8, buffers);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(p[HEADER + i], pattern(from + i));
}

static void frames_are_received(void **state)
{
	uint32_t len;

	(void)state;
	begin(FEATURES);
	offer_rx(0, 2048);
	peer_sends(7, 1514);
	turn(2);
	assert_true(used(RX, &len));
	assert_int_equal(len, HEADER + 1514);
	assert_frame(BUFFERS, 1514, 7, 1);
	/* No buffer: it waits, and the loop does too. */
	peer_sends(9, 100);
	turn(2);
	assert_true(loop_at_rest(loop));
	offer_rx(1, HEADER + 100);
	assert_true(used(RX, &len));
	assert_int_equal(len, HEADER + 100);
	assert_frame(BUFFERS + 0x2000, 100, 9, 1);
	end();
}

/* A header in pieces, num_buffers in two of them. */
static void receive_buffers_may_be_in_pieces(void **state)
{
	const struct drv_seg segs[] = {
		{ BUFFERS, 5, true },
		{ BUFFERS + 0x1000, 6, true },
		{ BUFFERS + 0x2000, 1, true },
		{ BUFFERS + 0x3000, 20, true },
	};
	const struct drv_seg more = { BUFFERS + 0x4000, 64, true };
	uint32_t len;

	(void)state;
	begin(FEATURES_MERGE);
	drv_send(&dq[RX], segs, 4);
	drv_send(&dq[RX], &more, 1);
	vdev_kick(card, RX);
	peer_sends(0, 60);
	turn(2);
	assert_true(used(RX, &len));
	assert_int_equal(len, HEADER + 20);
	assert_true(used(RX, &len));
	assert_int_equal(len, 40);
	assert_int_equal(((uint8_t *)at(BUFFERS + 0x1000))[5], 2);
	assert_int_equal(((uint8_t *)at(BUFFERS + 0x2000))[0], 0);
	assert_int_equal(((uint8_t *)at(BUFFERS + 0x3000))[19], pattern(19));
	assert_int_equal(((uint8_t *)at(BUFFERS + 0x4000))[39], pattern(59));
	end();
}

static void large_frames_take_several_buffers(void **state)
{
	enum { BUF = 0x1000, LEN = NET_MTU + 14, N = (HEADER + LEN + BUF - 1) / BUF };
	uint32_t len = 0, total = 0;

	(void)state;
	begin(FEATURES_MERGE);
	peer_sends(3, LEN);
	/* One short: none is used, and the next one is waited for. */
	for (unsigned i = 0; i < N - 1; i++)
		offer_rx(i, BUF);
	turn(2);
	assert_false(used(RX, &len));
	assert_true(loop_at_rest(loop));
	assert_int_equal(drv_avail_event(&dq[RX]), N - 1);
	offer_rx(N - 1, BUF);
	for (unsigned i = 0; i < N; i++) {
		const uint8_t *p = at(BUFFERS + 0x2000 * i);

		assert_true(used(RX, &len));
		assert_int_equal(len, i < N - 1 ? BUF : HEADER + LEN - BUF * (N - 1));
		for (uint32_t k = i ? 0 : HEADER; k < len; k++)
			assert_int_equal(p[k], pattern(3 + total + k - HEADER));
		total += len;
	}
	assert_int_equal(total, HEADER + LEN);
	assert_frame(BUFFERS, 100, 3, N);
	end();
}

static void the_stream_comes_in_any_pieces(void **state)
{
	static uint8_t wire[3 * 104];
	uint32_t len;

	(void)state;
	begin(FEATURES_MERGE);
	for (unsigned i = 0; i < 8; i++)
		offer_rx(i, 2048);
	for (unsigned f = 0; f < 3; f++) {
		wire[104 * f + 3] = 100;
		for (unsigned i = 0; i < 100; i++)
			wire[104 * f + 4 + i] = pattern(100 * f + i);
	}
	for (unsigned i = 0; i < sizeof(wire); i++) {
		assert_int_equal(write(peer, wire + i, 1), 1);
		turn(1);
	}
	for (unsigned f = 0; f < 3; f++) {
		assert_true(used(RX, &len));
		assert_int_equal(len, HEADER + 100);
		assert_frame(BUFFERS + 0x2000 * f, 100, 100 * f, 1);
	}
	end();
}

/* ---- back-pressure ------------------------------------------------------ */

static void a_full_socket_holds_the_queue(void **state)
{
	enum { LEN = 60000, N = 30 };
	uint8_t *wire = malloc(N * (4 + LEN));
	unsigned sent = 0;
	uint32_t len;

	(void)state;
	assert_non_null(wire);
	begin(FEATURES_MERGE);
	for (unsigned i = 0; i < N; i++)
		send_tx(HEADER + LEN);
	while (used(TX, &len))
		sent++;
	assert_true(sent < N);
	assert_true(loop_at_rest(loop));
	/* The frame that is partly out is a copy: the guest's memory is its own again. */
	assert_int_equal(peer_reads(wire, N * (4 + LEN)), N * (4 + LEN));
	for (unsigned i = 0; i < N; i++) {
		const uint8_t *p = wire + i * (4 + LEN);

		assert_int_equal(p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3], LEN);
		for (size_t k = 0; k < LEN; k++)
			assert_int_equal(p[4 + k], pattern(k));
	}
	while (used(TX, &len))
		sent++;
	assert_int_equal(sent, N);
	end();
	free(wire);
}

static void without_buffers_the_socket_waits(void **state)
{
	uint8_t frame[1004] = { 0, 0, 3, 232 };
	unsigned written = 0, got = 0;
	size_t part = 0;
	uint32_t len;

	(void)state;
	begin(FEATURES_MERGE);
	for (;;) {
		ssize_t n = write(peer, frame + part, sizeof(frame) - part);

		if (n < 0)
			break;
		part = (part + (size_t)n) % sizeof(frame);
		written += part == 0;
		turn(1);
	}
	assert_true(written > 20);
	assert_true(loop_at_rest(loop));
	while (got < written) {
		offer_rx(got % 64, 2048);
		turn(1);
		while (used(RX, &len)) {
			assert_int_equal(len, HEADER + 1000);
			got++;
		}
	}
	end();
}

/* ---- what does not ------------------------------------------------------ */

static void frames_of_no_length_are_dropped(void **state)
{
	static const uint32_t sizes[] = { HEADER, HEADER + 13, HEADER + FRAME_MAX + 1,
					  HEADER + (1 << 20) };
	uint8_t wire[64];
	uint32_t len;

	(void)state;
	begin(FEATURES_MERGE);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		send_tx(sizes[i]);
		assert_true(used(TX, &len));
		assert_int_equal(len, 0);
	}
	assert_int_equal(peer_reads(wire, sizeof(wire)), 0);
	assert_false(drv_broken(card));
	/* Of the peer's too. */
	offer_rx(0, 2048);
	peer_sends(0, 0);
	peer_sends(0, 13);
	peer_sends(0, FRAME_MAX + 1);
	peer_sends(5, 14);
	turn(3);
	assert_true(used(RX, &len));
	assert_int_equal(len, HEADER + 14);
	assert_frame(BUFFERS, 14, 5, 1);
	assert_int_equal(lost, 0);
	end();
}

static void malformed_chains_break_the_device(void **state)
{
	static const struct {
		unsigned queue;
		struct drv_seg seg;
	} cases[] = {
		{ TX, { DATA, HEADER - 1, false } },   { TX, { DATA, 100, true } },
		{ TX, { RAM_SIZE - 50, 100, false } }, { RX, { BUFFERS, 2048, false } },
		{ RX, { BUFFERS, HEADER - 1, true } },
	};

	(void)state;
	begin(FEATURES_MERGE);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t len;

		drv_send(&dq[cases[i].queue], &cases[i].seg, 1);
		vdev_kick(card, cases[i].queue);
		peer_sends(0, 100);
		turn(2);
		assert_true(drv_broken(card));
		assert_true(loop_at_rest(loop));
		attach(FEATURES_MERGE);
		offer_rx(0, 2048);
		turn(2);
		assert_true(used(RX, &len));
		assert_false(drv_broken(card));
	}
	end();
}

static void buffers_too_small_for_ever_lose_the_frame(void **state)
{
	uint32_t len;

	(void)state;
	/* Without merging: the next frame fits. */
	begin(FEATURES);
	offer_rx(0, HEADER + 100);
	peer_sends(0, 101);
	peer_sends(1, 100);
	turn(3);
	assert_true(used(RX, &len));
	assert_int_equal(len, HEADER + 100);
	assert_frame(BUFFERS, 100, 1, 1);
	end();
	/* With it: the whole queue is too small. */
	begin(FEATURES_MERGE);
	for (unsigned i = 0; i < QUEUE_SIZE; i++)
		offer_rx(i % 64, HEADER);
	peer_sends(0, 10000);
	peer_sends(1, 60);
	turn(3);
	assert_true(used(RX, &len));
	assert_int_equal(len, HEADER);
	end();
}

static void a_stream_out_of_step_ends_the_link(void **state)
{
	const uint32_t prefix = htobe32(WIRE_MAX + 1);
	uint8_t b[2];
	uint32_t len;

	(void)state;
	begin(FEATURES_MERGE);
	offer_rx(0, 2048);
	assert_int_equal(write(peer, &prefix, 4), 4);
	turn(2);
	assert_int_equal(lost, 1);
	assert_int_equal(lost_error, EPROTO);
	vdev_mmio_read(card, DRV_CONFIG + 6, b, 2);
	assert_int_equal(b[0], 0);
	assert_true(drv_read(card, DRV_INTERRUPT_STATUS) & 2);
	/* What is sent now goes nowhere, and is not held. */
	for (unsigned i = 0; i < 200; i++) {
		send_tx(HEADER + 1000);
		assert_true(used(TX, &len));
	}
	assert_true(loop_at_rest(loop));
	end();
}

static void the_peers_end_ends_the_link(void **state)
{
	(void)state;
	/* While it has nothing to do; in the middle of a frame; before the driver is there. */
	for (unsigned i = 0; i < 3; i++) {
		begin(FEATURES_MERGE);
		if (i == 1)
			for (unsigned k = 0; k < 20; k++)
				send_tx(HEADER + 60000);
		if (i == 2)
			drv_write(card, DRV_STATUS, 0);
		close_fd(&peer);
		turn(3);
		assert_int_equal(lost, 1);
		assert_int_equal(lost_error, 0);
		assert_true(loop_at_rest(loop));
		end();
	}
}

/* ---- reset, snapshot ---------------------------------------------------- */

static void a_reset_keeps_the_stream_in_step(void **state)
{
	enum { LEN = 60000 };
	uint8_t *wire = malloc(30 * (4 + LEN));
	size_t got, frames = 0;
	uint32_t len;

	(void)state;
	assert_non_null(wire);
	begin(FEATURES_MERGE);
	for (unsigned i = 0; i < 20; i++)
		send_tx(HEADER + LEN);
	/* Half a frame towards the guest, too. */
	assert_int_equal(write(peer, "\0\0\0\144half", 8), 8);
	turn(2);
	drv_write(card, DRV_STATUS, 0);
	memset(at(DATA), 0xee, 4096);
	got = peer_reads(wire, 30 * (4 + LEN));
	for (size_t i = 0; i < got; frames++) {
		assert_int_equal(wire[i + 2] << 8 | wire[i + 3], LEN);
		assert_int_equal(wire[i + 4], pattern(0));
		i += 4 + LEN;
		assert_true(i <= got);
	}
	assert_true(frames > 0 && frames < 20);
	attach(FEATURES_MERGE);
	offer_rx(0, 2048);
	assert_int_equal(write(peer, wire + 4, 96), 96);
	turn(2);
	assert_true(used(RX, &len));
	assert_int_equal(len, HEADER + 100);
	assert_memory_equal(at(BUFFERS + HEADER), "half", 4);
	end();
	free(wire);
}

static void a_restored_card_goes_on(void **state)
{
	struct buf blob = BUF_INIT;
	static uint8_t wire[256];
	struct vdev *old;
	uint32_t len;
	int old_peer;

	(void)state;
	begin(FEATURES_MERGE);
	offer_rx(0, 2048);
	offer_rx(1, 2048);
	peer_sends(0, 60);
	turn(2);
	assert_true(used(RX, &len));
	vdev_drain(card);
	peer_sends(1, 61);
	send_tx(HEADER + 100);
	assert_true(loop_at_rest(loop));
	assert_false(used(RX, &len));
	assert_false(used(TX, &len));
	assert_int_equal(vdev_save(card, &blob), 0);
	old = card;
	old_peer = peer;
	card = make_card();
	assert_int_equal(vdev_load(card, buf_data(&blob), buf_len(&blob), NULL), 0);
	vdev_undrain(card);
	assert_true(used(TX, &len));
	assert_int_equal(peer_reads(wire, 104), 104);
	peer_sends(2, 62);
	turn(2);
	assert_true(used(RX, &len));
	assert_int_equal(len, HEADER + 62);
	assert_frame(BUFFERS + 0x2000, 62, 2, 1);
	/* Another card's state. */
	((uint8_t *)(uintptr_t)buf_data(&blob))[buf_len(&blob) - 1] ^= 1;
	close(peer);
	card->ops->destroy(card);
	card = make_card();
	assert_int_equal(vdev_load(card, buf_data(&blob), buf_len(&blob), NULL), -EINVAL);
	old->ops->destroy(old);
	close(old_peer);
	buf_fini(&blob);
	end();
}

static void only_a_stream_socket_is_a_cable(void **state)
{
	struct vdev *d = NULL;
	int sv[2];

	(void)state;
	begin(FEATURES);
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, sv), 0);
	for (unsigned i = 0; i < 2; i++) {
		const struct net_config c = {
			.name = "n",
			.fd = i ? peer : sv[0],
			.mac = { i ? 1 : 2 },
		};
		struct err e = ERR_INIT;

		assert_int_equal(net_create(&d, &c, &ram, loop, &e), -EINVAL);
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
		TEST(the_configuration_tells_the_card),
		TEST(frames_are_sent),
		TEST(frames_are_received),
		TEST(receive_buffers_may_be_in_pieces),
		TEST(large_frames_take_several_buffers),
		TEST(the_stream_comes_in_any_pieces),
		TEST(a_full_socket_holds_the_queue),
		TEST(without_buffers_the_socket_waits),
		TEST(frames_of_no_length_are_dropped),
		TEST(malformed_chains_break_the_device),
		TEST(buffers_too_small_for_ever_lose_the_frame),
		TEST(a_stream_out_of_step_ends_the_link),
		TEST(the_peers_end_ends_the_link),
		TEST(a_reset_keeps_the_stream_in_step),
		TEST(a_restored_card_goes_on),
		TEST(only_a_stream_socket_is_a_cable),
	};

	return test_run(tests);
}
