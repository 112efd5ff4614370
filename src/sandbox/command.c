/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: A sandbox's own command
 *
 * Purpose: what command.json names is run when the guest is ready.  What it prints goes to
 * log/output.log; when it ends, so does the sandbox, and state.json keeps its exit status.
 *
 * It is a client of the relay like any other, on a socket pair: the guest's bytes come
 * through the same checks, with the same flow control.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/mem.h"
#include "codec/box_command.h"
#include "lib/client.h"
#include "sandbox/internal.h"
#include "sandbox/linelog.h"
#include "sys/file.h"

struct command {
	struct supervisor *s;
	struct box_command spec;
	struct linelog log;
	struct client client;
	struct client_channel channel;
	bool connected, ended;
};

static void command_end(struct command *c, int status, const char *reason)
{
	if (c->ended)
		return;
	c->ended = true;
	linelog_end(&c->log, false);
	linelog_end(&c->log, true);
	c->s->state_record.has_exit = true;
	c->s->state_record.exit_code = status;
	supervisor_end(c->s, reason);
}

static void command_exit(struct command *c, const struct frame *f)
{
	struct frame_exec_exit x;
	char reason[80];
	int status;

	if (frame_decode(f, &x, sizeof(x))) {
		command_end(c, 125, "its command's end could not be understood");
		return;
	}
	status = (int)(x.reason == EXIT_SIGNALED ? 128 + x.status : x.status) & 0xff;
	if (x.reason == EXIT_SIGNALED)
		snprintf(reason, sizeof(reason), "its command was killed by signal %u", x.status);
	else
		snprintf(reason, sizeof(reason), "its command ended with status %d", status);
	command_end(c, status, reason);
}

static void command_refused(struct command *c, const struct frame *f)
{
	struct frame_error err;
	char text[512];

	if (frame_decode(f, &err, sizeof(err)) || frame_str_copy(&err.message, text, sizeof(text))) {
		err.code = EPROTO;
		snprintf(text, sizeof(text), "the sandbox refused its command");
	}
	linelog_add(&c->log, true, text, strlen(text));
	command_end(c,
		    err.code == ENOENT                          ? 127
		    : err.code == EACCES || err.code == ENOEXEC ? 126
								: 125,
		    text);
}

static void command_frame(struct client_channel *ch, const struct frame *f)
{
	struct command *c = container_of(ch, struct command, channel);

	switch (f->type) {
	case FRAME_DATA:
		if (!f->len)
			return;
		linelog_add(&c->log, f->flags == STREAM_ERR, f->body, f->len);
		client_credit(ch, f->flags, f->len);
		return;
	case FRAME_EXEC_EXIT:
		command_exit(c, f);
		return;
	case FRAME_ERROR:
		command_refused(c, f);
		return;
	}
}

static void command_on_state(struct client *client, const struct frame_sandbox_state *st)
{
	(void)client;
	(void)st;
}

static void command_on_closed(struct client *client, const char *reason)
{
	struct command *c = container_of(client, struct command, client);

	/* While the sandbox ends this is no news, and tells nothing of the command. */
	if (c->s->state < SANDBOX_STOPPING)
		command_end(c, 125, reason);
}

static const struct client_ops command_client_ops = {
	.on_state = command_on_state,
	.on_closed = command_on_closed,
};

static int command_add_all(struct buf *b, struct frame_list *list, char *const *v)
{
	int rc = 0;

	for (; *v && !rc; v++)
		rc = frame_list_add(b, list, *v, strlen(*v));
	frame_list_end(b, list);
	return rc;
}

static int command_exec(struct command *c, struct err *e)
{
	struct frame_exec exec = {
		.flags = EXEC_COMMAND,
		.cwd = frame_str_of(c->spec.cwd),
		.user = frame_str_of(c->spec.user),
	};
	struct buf argv = BUF_INIT, env = BUF_INIT;
	int rc = command_add_all(&argv, &exec.argv, c->spec.argv);

	if (!rc)
		rc = command_add_all(&env, &exec.env, c->spec.env);
	c->channel.on_frame = command_frame;
	list_init(&c->channel.link);
	if (!rc)
		rc = client_open(&c->client, &c->channel, FRAME_EXEC, &exec);
	buf_fini(&argv);
	buf_fini(&env);
	return rc ? err_errno(e, -rc, "cannot start the sandbox's command") : 0;
}

int command_load(struct supervisor *s, struct err *e)
{
	auto_free char *text = NULL;
	struct err missing = ERR_INIT;
	struct command *c;
	size_t len;
	int rc = file_read_at(s->dirfd, BOX_COMMAND_FILE, BOX_COMMAND_MAX, &text, &len, &missing);

	if (rc == -ENOENT)
		return 0;
	if (rc)
		return err_set(e, missing.code, "%s", err_text(&missing));
	c = calloc(1, sizeof(*c));
	if (!c)
		return err_errno(e, ENOMEM, BOX_COMMAND_FILE);
	c->s = s;
	c->log.fd = -1;
	s->command = c;
	rc = box_command_parse(text, len, &c->spec, e);
	return rc ? rc : linelog_init(&c->log, s->logdirfd, e);
}

int command_start(struct supervisor *s, struct err *e)
{
	struct command *c = s->command;
	int sv[2], rc;

	if (!c)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) < 0)
		return err_errno(e, errno, "socketpair");
	rc = relay_add_client(&s->relay, sv[0], false, e);
	if (rc) {
		close(sv[1]);
		return rc;
	}
	rc = client_init(&c->client, s->loop, sv[1], &command_client_ops, e);
	if (rc)
		return rc;
	c->connected = true;
	return command_exec(c, e);
}

void command_fini(struct supervisor *s)
{
	struct command *c = s->command;

	if (!c)
		return;
	if (c->connected)
		client_fini(&c->client);
	linelog_fini(&c->log);
	box_command_fini(&c->spec);
	free(c);
	s->command = NULL;
}
