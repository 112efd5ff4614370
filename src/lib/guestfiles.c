/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/guestfiles.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

static void guestfiles_end(struct guestfiles *g, int rc)
{
	g->rc = rc;
	loop_stop(g->loop, 0);
}

/* Ends the request although the guest has not. */
static void guestfiles_abandon(struct guestfiles *g, int rc)
{
	client_close(&g->channel);
	guestfiles_end(g, rc);
}

static void guestfiles_on_state(struct client *c, const struct frame_sandbox_state *s)
{
	(void)c;
	(void)s;
}

static void guestfiles_on_closed(struct client *c, const char *reason)
{
	struct guestfiles *g = container_of(c, struct guestfiles, client);

	g->closed = true;
	guestfiles_end(g, err_set(g->e, EPIPE, "%s", reason));
}

static const struct client_ops guestfiles_ops = {
	.on_state = guestfiles_on_state,
	.on_closed = guestfiles_on_closed,
};

/* ---- content ---- */

static int guestfiles_store(struct guestfiles *g, const uint8_t *p, size_t n)
{
	while (n) {
		ssize_t done = write(g->fd, p, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return err_errno(g->e, errno, "cannot write what %s holds", g->path);
		p += done;
		n -= (size_t)done;
	}
	return 0;
}

static void guestfiles_data(struct guestfiles *g, const struct frame *f)
{
	int rc;

	if (g->writing || f->flags != STREAM_OUT || (!g->list && f->len > g->left)) {
		guestfiles_abandon(g,
				   err_set(g->e, EFBIG,
					   "%s: there is more than it was said to hold", g->path));
		return;
	}
	if (g->list) {
		rc = buf_append(g->list, f->body, f->len);
		if (rc)
			rc = err_set(g->e, EFBIG, "%s has too many entries (limit %u KiB of names)",
				     g->path, GUESTFILES_LIST_MAX >> 10);
	} else {
		g->left -= f->len;
		rc = guestfiles_store(g, f->body, f->len);
	}
	if (rc)
		guestfiles_abandon(g, rc);
	else
		client_credit(&g->channel, STREAM_OUT, f->len);
}

/* Sends as much as the guest takes now. */
static void guestfiles_push(struct guestfiles *g)
{
	uint8_t bytes[FRAME_DATA_MAX];

	while (g->window && !g->eof) {
		size_t room = g->window < sizeof(bytes) ? g->window : sizeof(bytes);
		ssize_t n = read(g->fd, bytes, room);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			guestfiles_abandon(g, err_errno(g->e, errno, "cannot read what becomes %s",
							g->path));
			return;
		}
		if (!n) {
			g->eof = true;
			client_send(&g->channel, FRAME_EOF, STREAM_IN, NULL);
		} else if (client_send_data(&g->channel, bytes, (size_t)n)) {
			guestfiles_abandon(g, err_errno(g->e, ENOMEM, "%s", g->path));
			return;
		}
		g->window -= (uint32_t)n;
	}
}

static void guestfiles_credit(struct guestfiles *g, const struct frame *f)
{
	struct frame_credit c;

	if (!g->writing || f->flags != STREAM_IN || frame_decode(f, &c, sizeof(c)) ||
	    c.bytes > FRAME_WINDOW_MAX - g->window)
		return;
	g->window += c.bytes;
	guestfiles_push(g);
}

/* ---- answers ---- */

static int guestfiles_done(struct guestfiles *g, const struct frame *f)
{
	struct frame_file_done d;

	if (frame_decode(f, &d, sizeof(d)))
		return err_set(g->e, EPROTO, "the sandbox gave an invalid answer");
	if (g->info)
		*g->info = (struct guestfiles_info){ .mode = d.mode, .size = d.size };
	return 0;
}

static int guestfiles_error(struct guestfiles *g, const struct frame *f)
{
	struct frame_error err;
	char text[1024];

	if (f->type != FRAME_ERROR || frame_decode(f, &err, sizeof(err)) ||
	    frame_str_copy(&err.message, text, sizeof(text)) || strlen(text) != err.message.len)
		return err_set(g->e, EPROTO, "the sandbox gave an invalid answer");
	return err_set(g->e, err.code && err.code < 4096 ? (int)err.code : EIO, "%s", text);
}

static void guestfiles_on_frame(struct client_channel *ch, const struct frame *f)
{
	struct guestfiles *g = container_of(ch, struct guestfiles, channel);

	if (f->type == FRAME_DATA)
		guestfiles_data(g, f);
	else if (f->type == FRAME_CREDIT)
		guestfiles_credit(g, f);
	else if (f->type == FRAME_FILE_DONE)
		guestfiles_end(g, guestfiles_done(g, f));
	else if (frame_type_ends_channel(f->type))
		guestfiles_end(g, guestfiles_error(g, f));
}

/* ---- requests ---- */

static int guestfiles_call(struct guestfiles *g, uint16_t type, const char *path, uint32_t flags,
			   mode_t mode, struct err *e)
{
	const struct frame_file msg = {
		.flags = flags,
		.path = frame_str_of(path),
		.user = frame_str_of(g->user),
		.mode = mode & 0777,
		.to = frame_str_of(""),
	};
	int rc;

	if (g->closed)
		return err_set(e, EPIPE, "the sandbox has ended");
	g->e = e;
	g->path = path;
	g->rc = 0;
	g->writing = type == FRAME_FILE_WRITE;
	g->eof = false;
	g->window = FRAME_WINDOW;
	g->channel = (struct client_channel){ .on_frame = guestfiles_on_frame };
	list_init(&g->channel.link);
	rc = client_open(&g->client, &g->channel, type, &msg);
	if (rc)
		return err_errno(e, -rc, "%s", path);
	if (g->writing)
		guestfiles_push(g);
	/* What could not even be read has been abandoned. */
	if (!g->rc)
		rc = loop_run(g->loop);
	return g->rc ? g->rc : rc < 0 ? err_errno(e, -rc, "%s", path) : 0;
}

int guestfiles_open(struct guestfiles *g, int dirfd, const char *user, struct err *e)
{
	int fd, rc;

	*g = (struct guestfiles){ .user = user, .e = e, .fd = -1 };
	/* The supervisor may end while we write to it. */
	signal(SIGPIPE, SIG_IGN);
	rc = loop_create(&g->loop, e);
	if (!rc)
		rc = client_connect(dirfd, &fd, e);
	if (!rc)
		rc = client_init(&g->client, g->loop, fd, &guestfiles_ops, e);
	g->connected = !rc;
	return rc;
}

void guestfiles_close(struct guestfiles *g)
{
	if (g->connected)
		client_fini(&g->client);
	if (g->loop)
		loop_destroy(g->loop);
	*g = (struct guestfiles){ .fd = -1 };
}

int guestfiles_stat(struct guestfiles *g, const char *path, struct guestfiles_info *out,
		    struct err *e)
{
	int rc;

	g->info = out;
	rc = guestfiles_call(g, FRAME_FILE_STAT, path, FILE_FOLLOW, 0, e);
	g->info = NULL;
	return rc;
}

int guestfiles_mkdir(struct guestfiles *g, const char *path, mode_t mode, struct err *e)
{
	return guestfiles_call(g, FRAME_FILE_MKDIR, path, 0, mode, e);
}

int guestfiles_read(struct guestfiles *g, const char *path, uint64_t max, int fd, struct err *e)
{
	g->fd = fd;
	g->left = max;
	return guestfiles_call(g, FRAME_FILE_READ, path, 0, 0, e);
}

int guestfiles_write(struct guestfiles *g, const char *path, mode_t mode, int fd, struct err *e)
{
	g->fd = fd;
	return guestfiles_call(g, FRAME_FILE_WRITE, path, 0, mode, e);
}

int guestfiles_list(struct guestfiles *g, const char *path, struct buf *out, struct err *e)
{
	int rc;

	buf_init(out, GUESTFILES_LIST_MAX);
	g->list = out;
	rc = guestfiles_call(g, FRAME_FILE_LIST, path, 0, 0, e);
	g->list = NULL;
	return rc;
}

int guestfiles_next(struct buf *list, struct guestfiles_entry *out, struct err *e)
{
	struct frame_dirent d;
	int n;

	if (!buf_len(list))
		return 0;
	n = frame_decode_dirent(buf_data(list), buf_len(list), &d);
	if (n <= 0 || frame_str_copy(&d.name, out->name, sizeof(out->name)) || !out->name[0] ||
	    strlen(out->name) != d.name.len || strchr(out->name, '/') || !strcmp(out->name, ".") ||
	    !strcmp(out->name, ".."))
		return err_set(e, EPROTO, "the sandbox gave an invalid entry of a directory");
	out->info = (struct guestfiles_info){ .mode = d.mode, .size = d.size };
	buf_consume(list, (size_t)n);
	return 1;
}
