/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay between two sockets: one end plays the guest's agent, the other a client.
 */
#include "unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "sandbox/relay.h"

/* A hand-driven end of a link. */
struct peer {
	int fd;
	struct buf in, out;
};

struct fixture {
	struct relay relay;
	struct loop *loop;
	struct peer ctl, bulk, client;
	uint64_t generation[2];
	int faults, configured, refused, stops, owner_gone, calls, let_go;
	struct relay_call *call[80];
	char reason[256];
};

static struct fixture *fx(struct relay *r)
{
	return container_of(r, struct fixture, relay);
}

static void on_fault(struct relay *r, const char *reason)
{
	fx(r)->faults++;
	snprintf(fx(r)->reason, sizeof(fx(r)->reason), "%s", reason);
}
static void on_configured(struct relay *r, const struct frame_configured *c)
{
	(void)c;
	fx(r)->configured++;
	relay_set_ready(r);
}
static void on_refused(struct relay *r, const struct frame_error *err)
{
	fx(r)->refused++;
	frame_str_copy(&err->message, fx(r)->reason, sizeof(fx(r)->reason));
}
static void on_stop(struct relay *r, uint32_t grace_ms)
{
	(void)grace_ms;
	fx(r)->stops++;
}
static void on_owner_gone(struct relay *r)
{
	fx(r)->owner_gone++;
}
static void on_call(struct relay *r, struct relay_call *call, const struct frame *f)
{
	assert_true(f->type == FRAME_NET_GET || f->type == FRAME_NET_SET);
	fx(r)->call[fx(r)->calls++] = call;
}
static void on_let_go(struct relay *r)
{
	fx(r)->let_go++;
}
static const struct relay_ops ops = {
	on_fault, on_configured, on_refused, on_stop, on_owner_gone, on_call, on_let_go,
};

/* Moves bytes until nothing moves any more. */
static void pump(struct fixture *f)
{
	struct peer *peers[] = { &f->ctl, &f->bulk, &f->client };
	unsigned idle = 0;

	/* Twice: what the loop did last may be there for a peer to read. */
	while (idle++ < 2) {
		for (size_t i = 0; i < ARRAY_SIZE(peers); i++) {
			struct peer *p = peers[i];
			uint8_t bytes[65536];
			ssize_t n;

			if (p->fd < 0)
				continue;
			if (buf_len(&p->out)) {
				n = send(p->fd, buf_data(&p->out), buf_len(&p->out), MSG_NOSIGNAL);
				if (n > 0) {
					buf_consume(&p->out, (size_t)n);
					idle = 0;
				}
			}
			while ((n = read(p->fd, bytes, sizeof(bytes))) > 0) {
				buf_append(&p->in, bytes, (size_t)n);
				idle = 0;
			}
		}
		assert_int_equal(loop_run_once(f->loop, 0), 0);
	}
}

/* Takes the next frame; type 0 = there is none. The body is valid until the next call. */
static struct frame take(struct peer *p)
{
	static uint8_t copy[FRAME_HEADER_SIZE + FRAME_BODY_MAX];
	struct frame f = { .type = 0 };
	int n = frame_parse(buf_data(&p->in), buf_len(&p->in), &f);

	if (n <= 0)
		return (struct frame){ .type = 0 };
	memcpy(copy, buf_data(&p->in), (size_t)n);
	assert_int_equal(frame_parse(copy, (size_t)n, &f), n);
	buf_consume(&p->in, (size_t)n);
	return f;
}

static struct frame expect(struct peer *p, uint16_t type)
{
	struct frame f = take(p);

	if (f.type != type)
		fail_msg("expected %s, got %s", frame_type_name(type),
			 f.type ? frame_type_name(f.type) : "nothing");
	return f;
}

static void peer_socket(struct peer *p, int *theirs)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv), 0);
	p->fd = sv[0];
	*theirs = sv[1];
}

static void agent_ack(struct fixture *f, struct peer *p, enum frame_link id)
{
	struct frame_hello_ack ack = { .version = FRAME_VERSION, .link = (uint8_t)id };
	struct frame fr = expect(p, FRAME_HELLO);
	struct frame_hello h;

	(void)f;
	assert_int_equal(frame_decode(&fr, &h, sizeof(h)), 0);
	assert_int_equal(h.link, id);
	assert_true(h.realtime_ns > 1700000000ull * 1000000000);
	memcpy(ack.magic, FRAME_MAGIC, FRAME_MAGIC_SIZE);
	ack.generation = h.generation;
	assert_int_equal(frame_encode(&p->out, 0, FRAME_HELLO_ACK, 0, &ack), 0);
}

static void send_configured(struct fixture *f)
{
	struct frame_configured c = { .uptime_ns = 1, .kernel = frame_str_of("6.1") };

	expect(&f->ctl, FRAME_CONFIGURE);
	assert_int_equal(frame_encode(&f->ctl.out, 0, FRAME_CONFIGURED, 0, &c), 0);
}

static void fixture_connect(struct fixture *f, bool owner)
{
	struct frame_hello h = { .version = FRAME_VERSION, .version_min = 1, .link = LINK_CLIENT };
	int theirs;

	memcpy(h.magic, FRAME_MAGIC, FRAME_MAGIC_SIZE);
	peer_socket(&f->client, &theirs);
	assert_int_equal(relay_add_client(&f->relay, theirs, owner, NULL), 0);
	assert_int_equal(frame_encode(&f->client.out, 0, FRAME_HELLO, 0, &h), 0);
	pump(f);
	expect(&f->client, FRAME_HELLO_ACK);
	expect(&f->client, FRAME_SANDBOX_STATE);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct frame_configure c = { .hostname = frame_str_of("box") };
	int ctl, bulk;

	test_setup(state);
	log_init(-1, LOG_ERR, "test");
	assert_non_null(f);
	f->client.fd = -1;
	list_init(&f->relay.clients);
	assert_int_equal(loop_create(&f->loop, NULL), 0);
	peer_socket(&f->ctl, &ctl);
	peer_socket(&f->bulk, &bulk);
	assert_int_equal(relay_init(&f->relay, f->loop, &ops, ctl, bulk, &c, NULL), 0);
	pump(f);
	*state = f;
	return 0;
}

static int setup_ready(void **state)
{
	struct fixture *f;

	setup(state);
	f = *state;
	agent_ack(f, &f->ctl, LINK_CTL);
	agent_ack(f, &f->bulk, LINK_BULK);
	send_configured(f);
	pump(f);
	assert_int_equal(f->configured, 1);
	fixture_connect(f, true);
	return 0;
}

static void peer_fini(struct peer *p)
{
	close_fd(&p->fd);
	buf_fini(&p->in);
	buf_fini(&p->out);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	relay_fini(&f->relay);
	peer_fini(&f->ctl);
	peer_fini(&f->bulk);
	peer_fini(&f->client);
	loop_destroy(f->loop);
	free(f);
	return test_teardown(state);
}

static void client_exec(struct fixture *f, uint32_t channel)
{
	struct frame_exec x = { .flags = EXEC_STDIN };

	assert_int_equal(frame_encode(&f->client.out, channel, FRAME_EXEC, 0, &x), 0);
	pump(f);
}

static void client_repl(struct fixture *f, uint32_t channel, uint32_t flags)
{
	struct frame_repl_run x = { .language = frame_str_of("python"), .flags = flags };

	assert_int_equal(frame_encode(&f->client.out, channel, FRAME_REPL_RUN, 0, &x), 0);
	pump(f);
}

static void send_result(struct fixture *f, uint32_t channel)
{
	struct frame_repl_result r = { .mime = frame_str_of("image/png"), .size = 1 };

	assert_int_equal(frame_encode(&f->ctl.out, channel, FRAME_REPL_RESULT, 0, &r), 0);
}

static void send_data(struct peer *p, uint32_t channel, uint16_t stream, size_t n)
{
	static uint8_t zero[FRAME_DATA_MAX];

	while (n) {
		size_t k = n < sizeof(zero) ? n : sizeof(zero);

		assert_int_equal(frame_encode_raw(&p->out, channel, FRAME_DATA, stream, zero, k), 0);
		n -= k;
	}
}

static void calls_are_the_supervisors_to_answer(void **state)
{
	static const struct frame_net_state st = { .closed = 1 };
	struct frame_net_set set = { .rules = frame_str_of("deny any") };
	struct fixture *f = *state;
	struct frame fr;

	assert_int_equal(frame_encode(&f->client.out, 7, FRAME_NET_GET, 0, NULL), 0);
	assert_int_equal(frame_encode(&f->client.out, 8, FRAME_NET_SET, 0, &set), 0);
	pump(f);
	assert_int_equal(f->calls, 2);
	assert_int_equal(take(&f->ctl).type, 0); /* nothing of it reaches the guest */
	relay_refuse(f->call[1], EINVAL, "no");
	relay_answer(f->call[0], FRAME_NET_STATE, &st);
	pump(f);
	fr = expect(&f->client, FRAME_ERROR);
	assert_int_equal(fr.channel, 8);
	fr = expect(&f->client, FRAME_NET_STATE);
	assert_int_equal(fr.channel, 7);
	/* So many at once and no more; who goes is not answered, and what is left is freed. */
	for (uint32_t i = 0; i < 65; i++)
		assert_int_equal(frame_encode(&f->client.out, 10 + i, FRAME_NET_GET, 0, NULL), 0);
	pump(f);
	assert_int_equal(f->calls, 2 + 64);
	fr = expect(&f->client, FRAME_ERROR);
	assert_int_equal(fr.channel, 10 + 64);
	close_fd(&f->client.fd);
	pump(f);
	relay_answer(f->call[2], FRAME_NET_STATE, &st);
	pump(f);
}

static void a_guest_that_answers_for_the_supervisor_is_broken(void **state)
{
	static const struct frame_net_state st = { .closed = 1 };
	struct fixture *f = *state;
	struct frame fr;

	client_exec(f, 1);
	fr = expect(&f->ctl, FRAME_EXEC);
	assert_int_equal(frame_encode(&f->ctl.out, fr.channel, FRAME_NET_STATE, 0, &st), 0);
	pump(f);
	assert_int_equal(f->faults, 1);
}

static void garbage_before_the_hello_is_skipped(void **state)
{
	struct fixture *f = *state;
	uint8_t junk[3000];

	for (size_t i = 0; i < sizeof(junk); i++)
		junk[i] = (uint8_t)(i * 31 >> 3);
	buf_append(&f->ctl.out, junk, sizeof(junk));
	agent_ack(f, &f->ctl, LINK_CTL);
	send_configured(f);
	pump(f);
	assert_int_equal(f->faults, 0);
	assert_int_equal(f->configured, 1);
}

static void an_answer_to_an_earlier_hello_does_not_count(void **state)
{
	struct fixture *f = *state;
	struct frame_hello_ack ack = { .version = FRAME_VERSION, .generation = 12345 };
	struct frame_configured c = { .uptime_ns = 1 };

	memcpy(ack.magic, FRAME_MAGIC, FRAME_MAGIC_SIZE);
	frame_encode(&f->ctl.out, 0, FRAME_HELLO_ACK, 0, &ack);
	frame_encode(&f->ctl.out, 0, FRAME_CONFIGURED, 0, &c);
	pump(f);
	assert_int_equal(f->configured, 0);
	assert_int_equal(f->faults, 0);
	agent_ack(f, &f->ctl, LINK_CTL);
	send_configured(f);
	pump(f);
	assert_int_equal(f->configured, 1);
}

static void endless_garbage_is_a_fault(void **state)
{
	struct fixture *f = *state;
	uint8_t junk[65536];

	memset(junk, 0xff, sizeof(junk));
	for (int i = 0; i < 20 && !f->faults; i++) {
		buf_append(&f->ctl.out, junk, sizeof(junk));
		pump(f);
	}
	assert_int_equal(f->faults, 1);
	assert_non_null(strstr(f->reason, "garbage"));
}

static void a_refusing_agent_is_reported(void **state)
{
	struct fixture *f = *state;
	struct frame_error err = { .code = EIO, .message = frame_str_of("no image disk") };

	agent_ack(f, &f->ctl, LINK_CTL);
	frame_encode(&f->ctl.out, 0, FRAME_ERROR, 0, &err);
	pump(f);
	assert_int_equal(f->refused, 1);
	assert_string_equal(f->reason, "no image disk");
}

static void requests_wait_until_the_agent_is_ready(void **state)
{
	struct fixture *f = *state;

	fixture_connect(f, false);
	client_exec(f, 7);
	expect(&f->ctl, FRAME_HELLO);
	expect(&f->ctl, FRAME_CONFIGURE);
	assert_int_equal(take(&f->ctl).type, 0);
	relay_set_ready(&f->relay);
	pump(f);
	expect(&f->ctl, FRAME_EXEC);
}

static void a_channel_is_translated_both_ways_and_freed(void **state)
{
	struct fixture *f = *state;
	struct frame_exec_exit x = { .status = 7 };
	struct frame fr;

	client_exec(f, 70000);
	fr = expect(&f->ctl, FRAME_EXEC);
	assert_int_equal(fr.channel, 1);
	send_data(&f->ctl, 1, STREAM_ERR, 10);
	frame_encode(&f->ctl.out, 1, FRAME_EXEC_EXIT, 0, &x);
	pump(f);
	fr = expect(&f->client, FRAME_DATA);
	assert_int_equal(fr.channel, 70000);
	assert_int_equal(fr.flags, STREAM_ERR);
	expect(&f->client, FRAME_EXEC_EXIT);
	client_exec(f, 70000);
	assert_int_equal(expect(&f->ctl, FRAME_EXEC).channel, 1);
	assert_int_equal(f->faults, 0);
}

static void files_go_to_the_bulk_link(void **state)
{
	struct fixture *f = *state;
	struct frame_file x = { .path = frame_str_of("/etc/passwd") };

	frame_encode(&f->client.out, 3, FRAME_FILE_READ, 0, &x);
	pump(f);
	expect(&f->bulk, FRAME_FILE_READ);
	assert_int_equal(take(&f->ctl).type, 0);
}

static void a_guest_that_overruns_the_window_is_at_fault(void **state)
{
	struct fixture *f = *state;

	client_exec(f, 1);
	send_data(&f->ctl, 1, STREAM_OUT, FRAME_WINDOW);
	pump(f);
	assert_int_equal(f->faults, 0);
	send_data(&f->ctl, 1, STREAM_OUT, 1);
	pump(f);
	assert_int_equal(f->faults, 1);
}

static void credit_extends_the_window(void **state)
{
	struct fixture *f = *state;
	struct frame_credit c = { .bytes = 1000 };

	client_exec(f, 1);
	send_data(&f->ctl, 1, STREAM_OUT, FRAME_WINDOW);
	frame_encode(&f->client.out, 1, FRAME_CREDIT, STREAM_OUT, &c);
	pump(f);
	send_data(&f->ctl, 1, STREAM_OUT, 1000);
	pump(f);
	assert_int_equal(f->faults, 0);
	send_data(&f->ctl, 1, STREAM_ERR, FRAME_WINDOW); /* a window of its own */
	pump(f);
	assert_int_equal(f->faults, 0);
}

static void results_pass_within_their_window(void **state)
{
	struct fixture *f = *state;
	struct frame_credit c = { .bytes = 1000 };
	struct frame fr;

	client_repl(f, 1, REPL_RESULTS);
	send_result(f, 1);
	send_data(&f->ctl, 1, STREAM_RESULT, 1);
	pump(f);
	expect(&f->client, FRAME_REPL_RESULT);
	fr = expect(&f->client, FRAME_DATA);
	assert_int_equal(fr.flags, STREAM_RESULT);
	send_data(&f->ctl, 1, STREAM_RESULT, FRAME_WINDOW - 1);
	frame_encode(&f->client.out, 1, FRAME_CREDIT, STREAM_RESULT, &c);
	pump(f);
	send_data(&f->ctl, 1, STREAM_RESULT, 1000);
	pump(f);
	assert_int_equal(f->faults, 0);
	send_data(&f->ctl, 1, STREAM_RESULT, 1);
	pump(f);
	assert_int_equal(f->faults, 1);
}

/* Their heads use no window, so they are counted. */
static void results_are_counted(void **state)
{
	struct fixture *f = *state;

	client_repl(f, 1, REPL_RESULTS);
	for (unsigned i = 0; i < FRAME_RESULTS_MAX; i++)
		send_result(f, 1);
	pump(f);
	assert_int_equal(f->faults, 0);
	send_result(f, 1);
	pump(f);
	assert_int_equal(f->faults, 1);
}

/* An older client takes whatever is no standard error for standard output. */
static void results_that_nobody_asked_for_are_a_fault(void **state)
{
	struct fixture *f = *state;

	client_repl(f, 1, 0);
	send_result(f, 1);
	pump(f);
	assert_int_equal(f->faults, 1);
}

static void result_data_that_nobody_asked_for_is_a_fault(void **state)
{
	struct fixture *f = *state;

	client_exec(f, 1);
	send_data(&f->ctl, 1, STREAM_RESULT, 1);
	pump(f);
	assert_int_equal(f->faults, 1);
}

static void a_guest_that_answers_on_no_channel_is_at_fault(void **state)
{
	struct fixture *f = *state;

	send_data(&f->ctl, 9, STREAM_OUT, 1);
	pump(f);
	assert_int_equal(f->faults, 1);
}

static void a_guest_that_sends_a_request_is_at_fault(void **state)
{
	struct fixture *f = *state;
	struct frame_exec x = { .flags = 0 };

	client_exec(f, 1);
	frame_encode(&f->ctl.out, 1, FRAME_EXEC, 0, &x);
	pump(f);
	assert_int_equal(f->faults, 1);
}

/* Two of a kind: the first passes, the second is one too many. */
static void assert_once(struct fixture *f, uint16_t type, const void *body, size_t len)
{
	client_exec(f, 1);
	frame_encode_raw(&f->ctl.out, 1, type, STREAM_OUT, body, len);
	pump(f);
	assert_int_equal(f->faults, 0);
	expect(&f->client, type);
	frame_encode_raw(&f->ctl.out, 1, type, STREAM_OUT, body, len);
	pump(f);
	assert_int_equal(f->faults, 1);
}

static void a_guest_that_starts_twice_is_at_fault(void **state)
{
	assert_once(*state, FRAME_EXEC_STARTED, "\1\0\0\0", 4);
}

static void a_guest_that_ends_a_stream_twice_is_at_fault(void **state)
{
	assert_once(*state, FRAME_EOF, "", 0);
}

static void a_guest_that_sends_after_the_end_is_at_fault(void **state)
{
	struct fixture *f = *state;

	client_exec(f, 1);
	frame_encode(&f->ctl.out, 1, FRAME_EOF, STREAM_OUT, NULL);
	send_data(&f->ctl, 1, STREAM_ERR, 1);
	pump(f);
	assert_int_equal(f->faults, 0);
	send_data(&f->ctl, 1, STREAM_OUT, 1);
	pump(f);
	assert_int_equal(f->faults, 1);
}

/* It would use no window, so there could be any number of them. */
static void a_guest_that_sends_nothing_is_at_fault(void **state)
{
	struct fixture *f = *state;

	client_exec(f, 1);
	frame_encode_raw(&f->ctl.out, 1, FRAME_DATA, STREAM_OUT, "", 0);
	pump(f);
	assert_int_equal(f->faults, 1);
}

static void assert_client_dropped(struct fixture *f)
{
	uint8_t byte;

	pump(f);
	while (read(f->client.fd, &byte, 1) > 0)
		;
	assert_int_equal(recv(f->client.fd, &byte, 1, 0), 0);
	assert_int_equal(f->owner_gone, 1);
	assert_int_equal(f->faults, 0);
}

static void a_client_that_grants_results_it_did_not_ask_for_is_dropped(void **state)
{
	struct fixture *f = *state;
	struct frame_credit c = { .bytes = 1 };

	client_repl(f, 1, 0);
	frame_encode(&f->client.out, 1, FRAME_CREDIT, STREAM_RESULT, &c);
	assert_client_dropped(f);
}

static void a_client_that_overruns_the_window_is_dropped(void **state)
{
	struct fixture *f = *state;

	client_exec(f, 1);
	send_data(&f->client, 1, STREAM_IN, FRAME_WINDOW);
	pump(f);
	assert_int_equal(f->owner_gone, 0);
	send_data(&f->client, 1, STREAM_IN, 1);
	assert_client_dropped(f);
}

static void a_client_that_grants_too_much_is_dropped(void **state)
{
	struct fixture *f = *state;
	struct frame_credit c = { .bytes = UINT32_MAX };

	client_exec(f, 1);
	frame_encode(&f->client.out, 1, FRAME_CREDIT, STREAM_OUT, &c);
	assert_client_dropped(f);
}

static void a_malformed_credit_is_a_violation(void **state)
{
	struct fixture *f = *state;

	client_exec(f, 1);
	frame_encode_raw(&f->client.out, 1, FRAME_CREDIT, STREAM_OUT, "abc", 3);
	assert_client_dropped(f);
	frame_encode_raw(&f->ctl.out, 1, FRAME_CREDIT, STREAM_IN, "", 0);
	pump(f);
	assert_int_equal(f->faults, 1);
}

/* Its requests wait for the agent, so there is no room to read the end of the connection. */
static void a_client_that_leaves_with_a_full_queue_is_noticed(void **state)
{
	static uint8_t junk[100 * 1024];
	struct fixture *f = *state;

	fixture_connect(f, true);
	for (int i = 0; i < 6; i++)
		frame_encode_raw(&f->client.out, 1, FRAME_EXEC, 0, junk, sizeof(junk));
	pump(f);
	assert_true(buf_len(&f->client.out) > 0);
	assert_int_equal(f->owner_gone, 0);
	close_fd(&f->client.fd);
	pump(f);
	assert_int_equal(f->owner_gone, 1);
	assert_int_equal(f->faults, 0);
}

static void client_hold(struct fixture *f, uint8_t hold)
{
	struct frame_sandbox_hold h = { .hold = hold };

	assert_int_equal(frame_encode(&f->client.out, 0, FRAME_SANDBOX_HOLD, 0, &h), 0);
	pump(f);
}

static void who_lets_go_is_told_the_state(void **state)
{
	struct fixture *f = *state;
	int owner = take_fd(&f->client.fd);

	/* The owner holds it from the beginning, a client only if it says so. */
	assert_true(relay_held(&f->relay));
	fixture_connect(f, false);
	close(owner);
	pump(f);
	assert_int_equal(f->let_go, 1);
	assert_false(relay_held(&f->relay));
	client_hold(f, 0);
	assert_int_equal(f->let_go, 1);
	client_hold(f, 1);
	client_hold(f, 1);
	assert_true(relay_held(&f->relay));
	assert_int_equal(take(&f->client).type, 0);
	client_hold(f, 0);
	assert_int_equal(f->let_go, 2);
	expect(&f->client, FRAME_SANDBOX_STATE);
	assert_false(relay_held(&f->relay));
}

static void a_holder_that_is_gone_has_let_go(void **state)
{
	struct fixture *f = *state;
	int owner = take_fd(&f->client.fd);

	fixture_connect(f, false);
	client_hold(f, 1);
	close(owner);
	pump(f);
	assert_int_equal(f->let_go, 1);
	assert_true(relay_held(&f->relay));
	close_fd(&f->client.fd);
	pump(f);
	assert_int_equal(f->let_go, 2);
	assert_false(relay_held(&f->relay));
}

static void a_client_that_opens_twice_is_dropped(void **state)
{
	struct fixture *f = *state;

	client_exec(f, 1);
	client_exec(f, 1);
	assert_client_dropped(f);
}

static void a_gone_client_leaves_no_process_behind(void **state)
{
	struct fixture *f = *state;
	struct frame_exec_exit x = { .reason = EXIT_SIGNALED, .status = 9 };

	client_exec(f, 1);
	expect(&f->ctl, FRAME_EXEC);
	close_fd(&f->client.fd);
	pump(f);
	assert_int_equal(expect(&f->ctl, FRAME_CLOSE).channel, 1);
	assert_int_equal(f->owner_gone, 1);
	/* Its number stays taken until the agent is done with it. */
	buf_reset(&f->client.in);
	fixture_connect(f, false);
	client_exec(f, 5);
	assert_int_equal(expect(&f->ctl, FRAME_EXEC).channel, 2);
	send_data(&f->ctl, 1, STREAM_OUT, 100);
	frame_encode(&f->ctl.out, 1, FRAME_EXEC_EXIT, 0, &x);
	pump(f);
	assert_int_equal(take(&f->client).type, 0);
	client_exec(f, 6);
	assert_int_equal(expect(&f->ctl, FRAME_EXEC).channel, 1);
	assert_int_equal(f->faults, 0);
}

static void the_257th_request_is_refused(void **state)
{
	struct fixture *f = *state;
	struct frame fr;
	struct frame_error err;

	for (uint32_t i = 1; i <= FRAME_CHANNELS_MAX + 1; i++)
		client_exec(f, i);
	fr = expect(&f->client, FRAME_ERROR);
	assert_int_equal(fr.channel, FRAME_CHANNELS_MAX + 1);
	assert_int_equal(frame_decode(&fr, &err, sizeof(err)), 0);
	assert_int_equal(err.code, EBUSY);
}

static void a_client_of_another_version_is_told(void **state)
{
	struct fixture *f = *state;
	struct frame_hello h = { .version = 9, .version_min = 9, .link = LINK_CLIENT };
	struct frame_error err;
	struct frame fr;
	int theirs;

	memcpy(h.magic, FRAME_MAGIC, FRAME_MAGIC_SIZE);
	peer_socket(&f->client, &theirs);
	assert_int_equal(relay_add_client(&f->relay, theirs, false, NULL), 0);
	frame_encode(&f->client.out, 0, FRAME_HELLO, 0, &h);
	pump(f);
	fr = expect(&f->client, FRAME_ERROR);
	assert_int_equal(frame_decode(&fr, &err, sizeof(err)), 0);
	assert_int_equal(err.code, EPROTONOSUPPORT);
}

#define RELAY_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define READY_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup_ready, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RELAY_TEST(garbage_before_the_hello_is_skipped),
		RELAY_TEST(an_answer_to_an_earlier_hello_does_not_count),
		RELAY_TEST(endless_garbage_is_a_fault),
		RELAY_TEST(a_refusing_agent_is_reported),
		RELAY_TEST(requests_wait_until_the_agent_is_ready),
		RELAY_TEST(a_client_of_another_version_is_told),
		RELAY_TEST(a_client_that_leaves_with_a_full_queue_is_noticed),
		READY_TEST(calls_are_the_supervisors_to_answer),
		READY_TEST(a_guest_that_answers_for_the_supervisor_is_broken),
		READY_TEST(a_channel_is_translated_both_ways_and_freed),
		READY_TEST(files_go_to_the_bulk_link),
		READY_TEST(a_guest_that_overruns_the_window_is_at_fault),
		READY_TEST(credit_extends_the_window),
		READY_TEST(results_pass_within_their_window),
		READY_TEST(results_are_counted),
		READY_TEST(results_that_nobody_asked_for_are_a_fault),
		READY_TEST(result_data_that_nobody_asked_for_is_a_fault),
		READY_TEST(a_client_that_grants_results_it_did_not_ask_for_is_dropped),
		READY_TEST(a_guest_that_answers_on_no_channel_is_at_fault),
		READY_TEST(a_guest_that_sends_a_request_is_at_fault),
		READY_TEST(a_guest_that_starts_twice_is_at_fault),
		READY_TEST(a_guest_that_ends_a_stream_twice_is_at_fault),
		READY_TEST(a_guest_that_sends_after_the_end_is_at_fault),
		READY_TEST(a_guest_that_sends_nothing_is_at_fault),
		READY_TEST(a_client_that_overruns_the_window_is_dropped),
		READY_TEST(a_client_that_grants_too_much_is_dropped),
		READY_TEST(a_malformed_credit_is_a_violation),
		READY_TEST(who_lets_go_is_told_the_state),
		READY_TEST(a_holder_that_is_gone_has_let_go),
		READY_TEST(a_client_that_opens_twice_is_dropped),
		READY_TEST(a_gone_client_leaves_no_process_behind),
		READY_TEST(the_257th_request_is_refused),
	};

	return test_run(tests);
}
