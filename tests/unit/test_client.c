/* SPDX-License-Identifier: Apache-2.0 */
/* The client of ctl.sock against a scripted supervisor. */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/sandbox_config.h"
#include "lib/client.h"
#include "lib/guestfiles.h"
#include "sys/tree.h"

#define CHANNELS 3

struct request {
	struct client_channel channel;
	unsigned frames;
	struct frame last; /* without a body */
	char data[64];
	bool open; /* during the last callback */
	bool free_at_end;
};

struct fixture {
	struct client client;
	struct loop *loop;
	int peer;
	struct buf in, out; /* of the peer */
	unsigned states, closed;
	struct frame_sandbox_state state;
	char reason[600];
	struct request *requests[CHANNELS];
};

static void on_state(struct client *c, const struct frame_sandbox_state *s)
{
	struct fixture *f = container_of(c, struct fixture, client);

	f->states++;
	f->state = *s;
}

static void on_closed(struct client *c, const char *reason)
{
	struct fixture *f = container_of(c, struct fixture, client);

	f->closed++;
	snprintf(f->reason, sizeof(f->reason), "%s", reason);
}

static const struct client_ops ops = { on_state, on_closed };

static void on_frame(struct client_channel *ch, const struct frame *f)
{
	struct request *r = container_of(ch, struct request, channel);

	r->frames++;
	r->last = *f;
	r->open = ch->client != NULL;
	if (f->type == FRAME_DATA && f->len < sizeof(r->data)) {
		memcpy(r->data, f->body, f->len);
		r->data[f->len] = '\0';
	}
	if (r->free_at_end && frame_type_ends_channel(f->type))
		free(r);
}

/* Both sides take what there is, until nothing moves. */
static void pump(struct fixture *f)
{
	uint8_t bytes[65536];
	ssize_t n;

	for (unsigned idle = 0; idle < 2; idle++) {
		if (f->peer >= 0 && buf_len(&f->out)) {
			n = send(f->peer, buf_data(&f->out), buf_len(&f->out), MSG_NOSIGNAL);
			if (n > 0) {
				buf_consume(&f->out, (size_t)n);
				idle = 0;
			}
		}
		while (f->peer >= 0 && (n = read(f->peer, bytes, sizeof(bytes))) > 0) {
			assert_int_equal(buf_append(&f->in, bytes, (size_t)n), 0);
			idle = 0;
		}
		assert_int_equal(loop_run_once(f->loop, 0), 0);
	}
}

/* Takes the next frame that the client sent; its body is valid until the next call. */
static struct frame expect(struct fixture *f, uint16_t type)
{
	static uint8_t copy[FRAME_HEADER_SIZE + FRAME_BODY_MAX];
	struct frame fr;
	int n;

	pump(f);
	n = frame_parse(buf_data(&f->in), buf_len(&f->in), &fr);
	assert_true(n > 0);
	memcpy(copy, buf_data(&f->in), (size_t)n);
	assert_int_equal(frame_parse(copy, (size_t)n, &fr), n);
	buf_consume(&f->in, (size_t)n);
	assert_string_equal(frame_type_name(fr.type), frame_type_name(type));
	return fr;
}

static void expect_nothing(struct fixture *f)
{
	pump(f);
	assert_int_equal(buf_len(&f->in), 0);
}

static void say(struct fixture *f, uint32_t channel, uint16_t type, const void *msg)
{
	assert_int_equal(frame_encode(&f->out, channel, type, 0, msg), 0);
	pump(f);
}

static void say_data(struct fixture *f, uint32_t channel, const char *text)
{
	assert_int_equal(frame_encode_raw(&f->out, channel, FRAME_DATA, STREAM_OUT, text,
					  strlen(text)),
			 0);
	pump(f);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct frame_hello h;
	struct frame fr;
	int sv[2];

	test_setup(state);
	assert_non_null(f);
	assert_int_equal(loop_create(&f->loop, NULL), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	f->peer = sv[0];
	assert_int_equal(fcntl(f->peer, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(client_init(&f->client, f->loop, sv[1], &ops, NULL), 0);
	for (size_t i = 0; i < CHANNELS; i++) {
		f->requests[i] = calloc(1, sizeof(struct request));
		assert_non_null(f->requests[i]);
		f->requests[i]->channel.on_frame = on_frame;
	}
	fr = expect(f, FRAME_HELLO);
	assert_int_equal(frame_decode(&fr, &h, sizeof(h)), 0);
	assert_memory_equal(h.magic, FRAME_MAGIC, FRAME_MAGIC_SIZE);
	assert_int_equal(h.link, LINK_CLIENT);
	assert_int_equal(h.version, FRAME_VERSION);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	client_fini(&f->client);
	loop_destroy(f->loop);
	close_fd(&f->peer);
	buf_fini(&f->in);
	buf_fini(&f->out);
	for (size_t i = 0; i < CHANNELS; i++)
		free(f->requests[i]);
	free(f);
	return test_teardown(state);
}

static uint32_t open_exec(struct fixture *f, struct request *r)
{
	struct frame_exec x = { .flags = EXEC_STDIN, .cwd = frame_str_of("/w") };
	struct frame_exec got;
	struct frame fr;

	assert_int_equal(client_open(&f->client, &r->channel, FRAME_EXEC, &x), 0);
	fr = expect(f, FRAME_EXEC);
	assert_int_equal(frame_decode(&fr, &got, sizeof(got)), 0);
	assert_true(frame_str_is(&got.cwd, "/w"));
	assert_true(fr.channel != 0);
	return fr.channel;
}

static void states_are_told(void **state)
{
	struct frame_sandbox_state s = { .state = SANDBOX_READY,
					 .engine = frame_str_of("tcg"),
					 .boot_ns = 5 };
	struct fixture *f = *state;

	say(f, 0, FRAME_SANDBOX_STATE, &s);
	assert_int_equal(f->states, 1);
	assert_int_equal(f->state.state, SANDBOX_READY);
	assert_int_equal(f->state.boot_ns, 5);
	s.state = SANDBOX_STOPPED;
	say(f, 0, FRAME_SANDBOX_STATE, &s);
	assert_int_equal(f->states, 2);
	assert_int_equal(f->state.state, SANDBOX_STOPPED);
	assert_int_equal(f->closed, 0);
}

static void answers_go_to_their_channels(void **state)
{
	struct frame_exec_exit x = { .status = 7 };
	struct fixture *f = *state;
	struct request *a = f->requests[0], *b = f->requests[1];
	uint32_t na = open_exec(f, a), nb = open_exec(f, b);

	assert_true(na != nb);
	say_data(f, nb, "for b");
	say_data(f, na, "for a");
	assert_string_equal(a->data, "for a");
	assert_string_equal(b->data, "for b");
	assert_true(a->open && b->open);
	say(f, na, FRAME_EXEC_EXIT, &x);
	assert_int_equal(a->last.type, FRAME_EXEC_EXIT);
	assert_false(a->open);
	/* Ended: what still comes for it goes nowhere, b goes on. */
	say_data(f, na, "late");
	assert_int_equal(a->frames, 2);
	say_data(f, nb, "more");
	assert_string_equal(b->data, "more");
	/* And a number is not used twice. */
	assert_true(open_exec(f, a) > nb);
}

static void the_last_callback_may_free_the_channel(void **state)
{
	struct frame_error e = { .code = ENOENT, .message = frame_str_of("no such program") };
	struct fixture *f = *state;
	struct request *r = take_ptr(&f->requests[0]);
	uint32_t n = open_exec(f, r);

	r->free_at_end = true;
	say(f, n, FRAME_ERROR, &e);
	say(f, n, FRAME_ERROR, &e);
	assert_int_equal(f->closed, 0);
}

static void an_open_channel_sends(void **state)
{
	struct frame_exec_resize size = { .rows = 24, .cols = 80 };
	static uint8_t big[FRAME_DATA_MAX + 1];
	struct fixture *f = *state;
	struct client_channel *ch = &f->requests[0]->channel;
	uint32_t n = open_exec(f, f->requests[0]);
	struct frame_credit credit;
	struct frame fr;

	assert_int_equal(client_send_data(ch, "input", 5), 0);
	fr = expect(f, FRAME_DATA);
	assert_true(fr.channel == n && fr.flags == STREAM_IN && fr.len == 5);
	assert_memory_equal(fr.body, "input", 5);
	assert_int_equal(client_send_data(ch, big, sizeof(big)), -EMSGSIZE);
	assert_int_equal(client_credit(ch, STREAM_ERR, 1000), 0);
	fr = expect(f, FRAME_CREDIT);
	assert_int_equal(frame_decode(&fr, &credit, sizeof(credit)), 0);
	assert_true(fr.flags == STREAM_ERR && credit.bytes == 1000);
	assert_int_equal(client_send(ch, FRAME_EXEC_RESIZE, 0, &size), 0);
	assert_int_equal(expect(f, FRAME_EXEC_RESIZE).channel, n);
	client_close(ch);
	assert_int_equal(expect(f, FRAME_CLOSE).channel, n);
	expect_nothing(f);
}

static void a_closed_channel_is_silent_both_ways(void **state)
{
	struct frame_exec_exit x = { .reason = EXIT_SIGNALED, .status = 9 };
	struct fixture *f = *state;
	struct request *r = f->requests[0];
	uint32_t n = open_exec(f, r);

	client_close(&r->channel);
	expect(f, FRAME_CLOSE);
	client_close(&r->channel);
	assert_int_equal(client_send_data(&r->channel, "x", 1), 0);
	assert_int_equal(client_send(&r->channel, FRAME_EOF, STREAM_IN, NULL), 0);
	assert_int_equal(client_credit(&r->channel, STREAM_OUT, 1), 0);
	expect_nothing(f);
	say_data(f, n, "on its way");
	say(f, n, FRAME_EXEC_EXIT, &x);
	assert_int_equal(r->frames, 0);
}

static void a_request_too_large_opens_nothing(void **state)
{
	struct frame_file file = { .path = { (const uint8_t *)"a\0b", 3 } };
	struct fixture *f = *state;

	assert_int_equal(client_open(&f->client, &f->requests[0]->channel, FRAME_FILE_STAT, &file),
			 -EMSGSIZE);
	assert_null(f->requests[0]->channel.client);
	expect_nothing(f);
	open_exec(f, f->requests[0]);
}

static void stop_is_sent(void **state)
{
	struct fixture *f = *state;
	struct frame_sandbox_stop s;
	struct frame fr;

	client_stop(&f->client, 1500);
	fr = expect(f, FRAME_SANDBOX_STOP);
	assert_int_equal(frame_decode(&fr, &s, sizeof(s)), 0);
	assert_int_equal(s.grace_ms, 1500);
	assert_int_equal(fr.channel, 0);
}

/* The connection ended once, with this reason; nothing can be sent any more. */
static void assert_gone(struct fixture *f, const char *reason)
{
	struct frame_exec x = { .flags = 0 };
	unsigned frames = f->requests[0]->frames;

	assert_int_equal(f->closed, 1);
	assert_string_equal(f->reason, reason);
	assert_null(f->requests[0]->channel.client);
	assert_int_equal(client_open(&f->client, &f->requests[1]->channel, FRAME_EXEC, &x), -EPIPE);
	assert_int_equal(client_send_data(&f->requests[0]->channel, "x", 1), 0);
	client_close(&f->requests[0]->channel);
	client_stop(&f->client, 0);
	pump(f);
	assert_int_equal(f->closed, 1);
	assert_int_equal(f->requests[0]->frames, frames);
}

static void an_error_on_channel_0_ends_the_connection(void **state)
{
	struct frame_error e = { .code = EPROTONOSUPPORT, .message = frame_str_of("too old") };
	struct fixture *f = *state;
	uint32_t n = open_exec(f, f->requests[0]);

	assert_int_equal(frame_encode(&f->out, 0, FRAME_ERROR, 0, &e), 0);
	say_data(f, n, "after the end");
	assert_gone(f, "too old");
	assert_int_equal(f->requests[0]->frames, 0);
}

/* A message longer than one line is not passed on in part. */
static void an_overlong_error_has_a_text_all_the_same(void **state)
{
	static char text[600];
	struct frame_error e = { .code = EIO, .message = { (const uint8_t *)text, sizeof(text) } };
	struct fixture *f = *state;

	memset(text, 'x', sizeof(text));
	say(f, 0, FRAME_ERROR, &e);
	assert_gone(f, "the sandbox refused the connection");
}

static void the_end_of_the_peer_is_told(void **state)
{
	struct frame_sandbox_state s = { .state = SANDBOX_STOPPED, .code = EIO };
	struct fixture *f = *state;
	uint32_t n = open_exec(f, f->requests[0]);

	/* Its last words are still delivered, and half a frame is not. */
	assert_int_equal(frame_encode(&f->out, 0, FRAME_SANDBOX_STATE, 0, &s), 0);
	assert_int_equal(frame_encode_raw(&f->out, n, FRAME_DATA, STREAM_OUT, "whole", 5), 0);
	assert_int_equal(frame_encode_raw(&f->out, n, FRAME_DATA, STREAM_OUT, "half", 4), 0);
	f->out.end -= 2;
	assert_int_equal(send(f->peer, buf_data(&f->out), buf_len(&f->out), 0), buf_len(&f->out));
	close_fd(&f->peer);
	pump(f);
	assert_int_equal(f->states, 1);
	assert_int_equal(f->requests[0]->frames, 1);
	assert_string_equal(f->requests[0]->data, "whole");
	assert_gone(f, "the sandbox's supervisor ended unexpectedly");
}

static void a_malformed_frame_ends_the_connection(void **state)
{
	struct fixture *f = *state;
	uint8_t h[FRAME_HEADER_SIZE];

	open_exec(f, f->requests[0]);
	frame_header_put(h, FRAME_BODY_MAX + 1, 1, FRAME_EXEC_EXIT, 0);
	assert_int_equal(buf_append(&f->out, h, sizeof(h)), 0);
	pump(f);
	assert_gone(f, "the supervisor broke the protocol");
}

static void unknown_and_odd_frames_are_ignored(void **state)
{
	struct fixture *f = *state;
	struct request *r = f->requests[0];
	uint32_t n = open_exec(f, r);

	/* From a newer supervisor; a state that is cut; a channel never opened. */
	assert_int_equal(frame_encode_raw(&f->out, 0, 4711, 9, "new", 3), 0);
	assert_int_equal(frame_encode_raw(&f->out, 0, FRAME_SANDBOX_STATE, 0, "\x02", 1), 0);
	assert_int_equal(frame_encode_raw(&f->out, 0xffffffff, FRAME_DATA, 1, "?", 1), 0);
	assert_int_equal(frame_encode_raw(&f->out, 0, FRAME_PONG, 0, "", 0), 0);
	say_data(f, n, "still here");
	assert_int_equal(f->states, 0);
	assert_int_equal(f->closed, 0);
	assert_int_equal(r->frames, 1);
	assert_string_equal(r->data, "still here");
}

static void frames_may_come_byte_by_byte(void **state)
{
	struct fixture *f = *state;
	uint32_t n = open_exec(f, f->requests[0]);
	struct buf all = BUF_INIT;

	assert_int_equal(frame_encode_raw(&all, n, FRAME_DATA, STREAM_OUT, "slowly", 6), 0);
	assert_int_equal(frame_encode(&all, n, FRAME_EOF, STREAM_OUT, NULL), 0);
	while (buf_len(&all)) {
		assert_int_equal(buf_append(&f->out, buf_data(&all), 1), 0);
		buf_consume(&all, 1);
		pump(f);
	}
	assert_int_equal(f->requests[0]->frames, 2);
	assert_string_equal(f->requests[0]->data, "slowly");
	buf_fini(&all);
}

static void connecting_needs_a_supervisor(void **state)
{
	char dir[] = "/tmp/msb-test-client-XXXXXX";
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct err e = ERR_INIT;
	int dirfd, fd = -1, listener;

	(void)state;
	assert_non_null(mkdtemp(dir));
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(client_connect(dirfd, &fd, &e), -ENOENT);
	assert_int_equal(fd, -1);
	assert_non_null(strstr(err_text(&e), "supervisor"));
	/* A socket that nobody listens on any more. */
	assert_int_equal(mkdirat(dirfd, SANDBOX_RUN_DIR, 0700), 0);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/" SANDBOX_CTL_SOCK, dir);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(client_connect(dirfd, &fd, NULL), -ECONNREFUSED);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(client_connect(dirfd, &fd, NULL), 0);
	close_fd(&fd);
	close(listener);
	close(dirfd);
	assert_int_equal(tree_remove(AT_FDCWD, dir), 0);
}

#define CLIENT_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

/* A guest names the entries of its directories: only plain segments are taken. */
static void names_of_a_guest_are_segments(void **state)
{
	static const struct {
		const char *name;
		size_t len;
		bool good;
	} names[] = {
		{ "a", 1, true },        { "..a", 3, true }, { "\xc3\xa4 b", 4, true },
		{ "", 0, false },        { ".", 1, false },  { "..", 2, false },
		{ "a/b", 3, false },     { "/", 1, false },  { "a#b", 3, false },
		{ "../../x", 7, false },
	};
	struct guestfiles_entry n;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const struct frame_dirent d = {
			.name = { (const uint8_t *)names[i].name, (uint32_t)names[i].len },
			.mode = S_IFREG | 0640,
			.size = 7,
		};
		struct err e = ERR_INIT;
		struct buf b = BUF_INIT;
		char *zero;

		assert_int_equal(frame_encode_dirent(&b, &d), 0);
		/* We would not say what a guest may. */
		zero = memmem(buf_data(&b), buf_len(&b), "a#b", 3);
		if (zero)
			zero[1] = '\0';
		assert_int_equal(guestfiles_next(&b, &n, &e), names[i].good ? 1 : -EPROTO);
		if (names[i].good) {
			assert_string_equal(n.name, names[i].name);
			assert_int_equal(n.info.mode, S_IFREG | 0640);
			assert_int_equal(n.info.size, 7);
			assert_int_equal(guestfiles_next(&b, &n, &e), 0);
		}
		buf_reset(&b);
		/* A list that ends in the middle of an entry. */
		assert_int_equal(buf_append(&b, "\x08\0\0\0ab", 6), 0);
		assert_int_equal(guestfiles_next(&b, &n, &e), -EPROTO);
		buf_fini(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CLIENT_TEST(states_are_told),
		CLIENT_TEST(answers_go_to_their_channels),
		CLIENT_TEST(the_last_callback_may_free_the_channel),
		CLIENT_TEST(an_open_channel_sends),
		CLIENT_TEST(a_closed_channel_is_silent_both_ways),
		CLIENT_TEST(a_request_too_large_opens_nothing),
		CLIENT_TEST(stop_is_sent),
		CLIENT_TEST(an_error_on_channel_0_ends_the_connection),
		CLIENT_TEST(an_overlong_error_has_a_text_all_the_same),
		CLIENT_TEST(the_end_of_the_peer_is_told),
		CLIENT_TEST(a_malformed_frame_ends_the_connection),
		CLIENT_TEST(unknown_and_odd_frames_are_ignored),
		CLIENT_TEST(frames_may_come_byte_by_byte),
		TEST(connecting_needs_a_supervisor),
		TEST(names_of_a_guest_are_segments),
	};

	return test_run(tests);
}
