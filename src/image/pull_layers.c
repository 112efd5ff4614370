/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers from msb-fetch to the store and to the converter, all at once: one loop over the
 * pipes of the bodies, msb-fetch's events, the converter's reports, and the pipe by which
 * the converter gets a layer that is still coming.  See pull.h.
 */
#include "image/pull_layers.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/sha256.h"
#include "image/convert.h"
#include "image/digest.h"
#include "image/progress.h"
#include "image/pull_show.h"
#include "image/store_internal.h"

#define LAYERS_READ (1u << 20)
#define LAYERS_FLUSH (16u << 20) /* bytes after which the disk gets to work */
#define LAYERS_OPEN_MAX 65536u
#define LAYERS_POLL_MS 100 /* while there is a bar to draw */

enum layer_state { LAYER_WAITING, LAYER_FETCHING, LAYER_READY, LAYER_STORED };

/* A layer of the image; one that is listed twice is fetched once. */
struct pull_layer {
	const struct descriptor *d;
	enum layer_state state;
	struct store_temp temp;
	struct digest *sha;
	uint64_t have, flushed;
	int body; /* -1 = it has ended */
	bool told, resumed; /* DONE came; some of it is of an earlier pull */
};

struct layers_run {
	struct pull_layers *job;
	struct pull_layer *layers;
	size_t n, *which; /* which[i]: layer i of the manifest is layers[which[i]] */
	struct pull_show show;
	uint8_t *buf;
	struct converter *converter; /* NULL = not yet, none, or done */
	struct convert_job convert;
	struct convert_result result;
	struct store_temp rootfs;
	bool converting, converted;
	struct err convert_error;
	size_t at; /* layer of the manifest that the converter has now */
	int feed; /* pipe by which it gets it; -1 = it has the file */
	uint64_t fed;
};

static int layers_begin(struct layers_run *r, struct err *e);

/* ---- what comes ---- */

/* How much of the start of a file is a layer's: all of it is hashed again. */
static int layers_rehash(struct layers_run *r, struct pull_layer *l, struct err *e)
{
	ssize_t n;

	if (lseek(l->temp.fd, 0, SEEK_END) > (off_t)l->d->size && ftruncate(l->temp.fd, 0) < 0)
		return err_errno(e, errno, "begin a layer again");
	while ((n = pread(l->temp.fd, r->buf, LAYERS_READ, (off_t)l->have)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(e, errno, "read what there is of a layer");
		digest_update(l->sha, r->buf, (size_t)n);
		l->have += (uint64_t)n;
	}
	l->resumed = l->have > 0;
	return 0;
}

static struct pull_show_layer *layers_show(struct layers_run *r, const struct pull_layer *l)
{
	return &r->show.layers[l - r->layers];
}

/* Is it what the manifest says? 1 = no, but it may be begun again. */
static int layers_verify(struct layers_run *r, struct pull_layer *l, struct err *e)
{
	uint8_t sum[DIGEST_BYTES];
	char text[DIGEST_SIZE];

	digest_final(l->sha, sum);
	digest_destroy(l->sha);
	l->sha = NULL;
	sha256_text(sum, text);
	if (l->have == l->d->size && !strcmp(text, l->d->digest)) {
		l->state = LAYER_READY;
		layers_show(r, l)->state = SHOW_DONE;
		pull_show_line(&r->show, layers_show(r, l));
		return 0;
	}
	if (l->resumed && r->job->fetch)
		return 1;
	return err_set(
		e, EBADMSG,
		"layer %.19s is not what the manifest says: %llu bytes with the digest %.19s",
		l->d->digest, (unsigned long long)l->have, text);
}

static int layers_start_one(struct layers_run *r, struct pull_layer *l, struct err *e)
{
	struct fetch_request req = { .kind = FETCH_BLOB,
				     .id = (uint32_t)(l - r->layers),
				     .size = l->d->size };
	int rc = digest_create(&l->sha, e);

	l->have = 0;
	if (!rc && !l->temp.w)
		rc = store_partial_open(r->job->w, l->d->digest, &l->temp, e);
	if (!rc)
		rc = layers_rehash(r, l, e);
	if (!rc && l->have == l->d->size && l->resumed) {
		rc = layers_verify(r, l, e);
		if (rc <= 0)
			return rc;
		/* All of it is there and wrong. */
		l->resumed = false;
		l->have = 0;
		rc = ftruncate(l->temp.fd, 0) < 0 ? err_errno(e, errno, "begin a layer again")
						  : digest_create(&l->sha, e);
	}
	if (rc)
		return rc;
	req.offset = l->have;
	snprintf(req.what, sizeof(req.what), "%s", l->d->digest);
	l->state = LAYER_FETCHING;
	l->told = false;
	layers_show(r, l)->state = SHOW_FETCHING;
	layers_show(r, l)->have = l->have;
	return fetch_send(r->job->fetch, &req, &l->body, e);
}

/* As many at a time as was asked for, bottom first. */
static int layers_start(struct layers_run *r, struct err *e)
{
	unsigned busy = 0;
	int rc = 0;

	for (size_t i = 0; i < r->n; i++)
		busy += r->layers[i].state == LAYER_FETCHING;
	for (size_t i = 0; !rc && i < r->n && busy < r->job->parallel; i++) {
		if (r->layers[i].state != LAYER_WAITING)
			continue;
		rc = layers_start_one(r, &r->layers[i], e);
		busy += r->layers[i].state == LAYER_FETCHING;
	}
	return rc;
}

/* Body and event have come. */
static int layers_complete(struct layers_run *r, struct pull_layer *l, struct err *e)
{
	int rc = layers_verify(r, l, e);

	if (rc <= 0)
		return rc;
	/* The part that an earlier pull left was wrong, or the part that was added to it. */
	pull_show_note(&r->show, "a layer that was there in part is fetched again");
	if (ftruncate(l->temp.fd, 0) < 0)
		return err_errno(e, errno, "begin a layer again");
	/* The converter may have seen some of it. */
	if (r->converting)
		r->convert_error.code = 0;
	l->resumed = false;
	l->state = LAYER_WAITING;
	return layers_begin(r, e);
}

static int layers_read_body(struct layers_run *r, struct pull_layer *l, struct err *e)
{
	ssize_t n = read(l->body, r->buf, LAYERS_READ), done = 0;

	if (n < 0)
		return errno == EINTR ? 0 : err_errno(e, errno, "read what msb-fetch sends");
	if (!n) {
		close_fd(&l->body);
		return l->told ? layers_complete(r, l, e) : 0;
	}
	if (l->have + (uint64_t)n > l->d->size)
		return err_set(e, EBADMSG, "layer %.19s is longer than the manifest says",
			       l->d->digest);
	digest_update(l->sha, r->buf, (size_t)n);
	while (done < n) {
		ssize_t k = pwrite(l->temp.fd, r->buf + done, (size_t)(n - done),
				   (off_t)l->have + done);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_errno(e, errno, "write a layer to the image store");
		done += k;
	}
	l->have += (uint64_t)n;
	r->job->fetched += (uint64_t)n;
	layers_show(r, l)->have = l->have;
	if (l->have - l->flushed >= LAYERS_FLUSH) {
		/* Written out while more comes, it does not have to be waited for at the end. */
		sync_file_range(l->temp.fd, (off_t)l->flushed, (off_t)(l->have - l->flushed),
				SYNC_FILE_RANGE_WRITE);
		l->flushed = l->have;
	}
	return 0;
}

static int layers_event(struct layers_run *r, struct err *e)
{
	struct fetch_event ev;
	struct pull_layer *l;
	int rc = fetch_next(r->job->fetch, &ev, e);

	if (rc)
		return rc;
	if (ev.id >= r->n || r->layers[ev.id].state != LAYER_FETCHING)
		return err_set(e, EPROTO, "msb-fetch sends what it should not");
	l = &r->layers[ev.id];
	if (ev.kind == FETCH_EV_NOTE) {
		pull_show_note(&r->show, ev.text);
		return 0;
	}
	if (ev.kind != FETCH_EV_DONE)
		return err_set(e, ev.code && ev.code < 4096 ? (int)ev.code : EIO, "layer %.19s: %s",
			       l->d->digest, ev.text);
	l->told = true;
	return l->body < 0 ? layers_complete(r, l, e) : 0;
}

/* ---- the converter ---- */

static int layers_open_stored(struct layers_run *r, const struct pull_layer *l)
{
	char path[STORE_BLOB_PATH_MAX];

	if (l->state == LAYER_READY) {
		/* Opened anew: the position is its own. */
		snprintf(path, sizeof(path), "/proc/self/fd/%d", l->temp.fd);
		return open(path, O_RDONLY | O_CLOEXEC);
	}
	store_blob_path(l->d->digest, path);
	return openat(store_writer_store(r->job->w)->dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

/* The converter wants layer @i: a file if it is whole, else a pipe. */
static int layers_open(void *ctx, size_t i)
{
	struct layers_run *r = ctx;
	const struct pull_layer *l = &r->layers[r->which[i]];
	int p[2];

	r->at = i;
	close_fd(&r->feed);
	if (l->state == LAYER_READY || l->state == LAYER_STORED)
		return layers_open_stored(r, l);
	if (pipe2(p, O_CLOEXEC) < 0)
		return -1;
	/* Only ours must not block: the converter waits for what comes. */
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	(void)fcntl(p[1], F_SETPIPE_SZ, LAYERS_READ);
	r->feed = p[1];
	r->fed = 0;
	return p[0];
}

/* What comes is hashed as it comes, and the converter does not see its end before that is right. */
static const char *layers_known(void *ctx, size_t i)
{
	const struct layers_run *r = ctx;
	const struct pull_layer *l = &r->layers[r->which[i]];

	return l->state == LAYER_STORED ? NULL : l->d->digest;
}

static struct pull_layer *layers_current(struct layers_run *r)
{
	return &r->layers[r->which[r->at]];
}

/* Passes on what has come of the layer that the converter reads. */
static void layers_feed(struct layers_run *r)
{
	struct pull_layer *l = layers_current(r);
	off_t from = (off_t)r->fed;
	ssize_t n;

	if (r->fed < l->have) {
		n = splice(l->temp.fd, &from, r->feed, NULL, l->have - r->fed, SPLICE_F_NONBLOCK);
		if (n > 0)
			r->fed += (uint64_t)n;
		else if (n < 0 && errno != EAGAIN && errno != EINTR)
			close_fd(&r->feed); /* it is gone: its report says why */
	}
	if (r->feed >= 0 && l->state == LAYER_READY && r->fed == l->d->size)
		close_fd(&r->feed);
}

static void layers_report(struct layers_run *r)
{
	int rc = convert_step(r->converter, &r->convert_error);

	if (!rc)
		return;
	if (rc > 0) {
		rc = convert_finish(take_ptr(&r->converter), &r->result, &r->convert_error);
		r->converted = !rc;
	}
	convert_abort(take_ptr(&r->converter));
	close_fd(&r->feed);
}

/* Starts the converter, or starts it again. */
static int layers_begin(struct layers_run *r, struct err *e)
{
	int rc;

	if (!r->converting)
		return 0;
	convert_abort(take_ptr(&r->converter));
	close_fd(&r->feed);
	store_temp_fini(&r->rootfs);
	r->converted = false;
	rc = store_temp_file(r->job->w, &r->rootfs, e);
	if (rc)
		return rc;
	r->convert = (struct convert_job){
		.open_layer = layers_open,
		.known = layers_known,
		.n_layers = r->job->m->n_layers,
		.limits = ROOTIMAGE_LIMITS_DEFAULT,
		.out = r->rootfs.fd,
		.ctx = r,
	};
	if (r->job->max_unpacked)
		r->convert.limits.max_bytes = r->job->max_unpacked;
	return convert_start(&r->convert, &r->converter, e);
}

/* ---- the loop ---- */

static bool layers_fetched(const struct layers_run *r)
{
	for (size_t i = 0; i < r->n; i++)
		if (r->layers[i].state != LAYER_READY && r->layers[i].state != LAYER_STORED)
			return false;
	return true;
}

/*
 * A converter that failed may have read what was damaged on its way: it counts once the
 * layer that it read turns out to be the one that the manifest names.
 */
static bool layers_convert_failed(struct layers_run *r)
{
	enum layer_state s = layers_current(r)->state;

	return r->convert_error.code && (s == LAYER_READY || s == LAYER_STORED);
}

static size_t layers_poll_set(struct layers_run *r, struct pollfd *p)
{
	struct pull_layer *l = layers_current(r);
	size_t n = 0;

	p[n++] = (struct pollfd){ r->job->fetch ? r->job->fetch->sock : -1, POLLIN, 0 };
	p[n++] = (struct pollfd){ r->converter ? convert_fd(r->converter) : -1, POLLIN, 0 };
	p[n++] = (struct pollfd){ r->feed >= 0 && r->fed < l->have ? r->feed : -1, POLLOUT, 0 };
	for (size_t i = 0; i < r->n; i++)
		if (r->layers[i].state == LAYER_FETCHING && r->layers[i].body >= 0)
			p[n++] = (struct pollfd){ r->layers[i].body, POLLIN, 0 };
	return n;
}

static int layers_turn(struct layers_run *r, struct pollfd *p, struct err *e)
{
	size_t n = layers_poll_set(r, p), k = 3;
	int rc = 0;

	if (poll(p, n, progress_mode() == PROGRESS_TTY ? LAYERS_POLL_MS : -1) < 0)
		return errno == EINTR ? 0 : err_errno(e, errno, "poll");
	if (p[1].revents)
		layers_report(r);
	for (size_t i = 0; !rc && i < r->n && k < n; i++) {
		if (r->layers[i].body != p[k].fd)
			continue;
		if (p[k++].revents)
			rc = layers_read_body(r, &r->layers[i], e);
	}
	if (!rc && p[0].revents)
		rc = layers_event(r, e);
	if (r->feed >= 0)
		layers_feed(r);
	pull_show_bars(&r->show);
	return rc;
}

static int layers_loop(struct layers_run *r, struct err *e)
{
	auto_free struct pollfd *p = calloc(r->n + 3, sizeof(*p));
	bool said = false;
	int rc = p ? 0 : err_errno(e, ENOMEM, "fetch the layers");

	while (!rc) {
		if (layers_convert_failed(r))
			return err_set(e, r->convert_error.code, "%s", err_text(&r->convert_error));
		if (layers_fetched(r)) {
			if (!r->converting || r->converted)
				return 0;
			if (!said) {
				pull_show_end(&r->show);
				progress_step("writing the root image");
				said = true;
			}
		} else {
			rc = layers_start(r, e);
			if (rc || layers_fetched(r))
				continue;
		}
		rc = layers_turn(r, p, e);
	}
	return rc;
}

/* ---- begin and end ---- */

static int layers_list(struct layers_run *r, struct err *e)
{
	const struct manifest *m = r->job->m;
	const struct store *s = store_writer_store(r->job->w);

	r->layers = calloc(m->n_layers, sizeof(*r->layers));
	r->which = calloc(m->n_layers, sizeof(*r->which));
	r->show.layers = calloc(m->n_layers, sizeof(*r->show.layers));
	r->buf = malloc(LAYERS_READ);
	if (!r->layers || !r->which || !r->show.layers || !r->buf)
		return err_errno(e, ENOMEM, "fetch the layers");
	for (size_t i = 0; i < m->n_layers; i++) {
		struct pull_layer *l = &r->layers[r->n];
		size_t k = 0;

		while (k < r->n && strcmp(r->layers[k].d->digest, m->layers[i].digest))
			k++;
		r->which[i] = k;
		if (k < r->n)
			continue;
		*l = (struct pull_layer){ .d = &m->layers[i], .temp = STORE_TEMP_INIT, .body = -1 };
		if (store_has_blob(s, l->d))
			l->state = LAYER_STORED;
		else if (r->job->take && r->job->take(r->job->ctx, l->d, &l->temp))
			l->state = LAYER_READY;
		else if (!r->job->fetch)
			return err_set(e, ENOENT, "layer %.19s is missing", l->d->digest);
		r->show.layers[k].size = l->d->size;
		snprintf(r->show.layers[k].name, sizeof(r->show.layers[k].name), "%s",
			 l->d->digest + strlen("sha256:"));
		r->show.layers[k].name[12] = '\0';
		if (l->state == LAYER_STORED)
			r->show.layers[k].state = SHOW_STORED;
		r->n++;
	}
	r->show.n = r->n;
	return 0;
}

static int layers_check_diff_ids(const struct layers_run *r, struct err *e)
{
	char text[DIGEST_SIZE];

	for (size_t i = 0; i < r->job->m->n_layers; i++) {
		sha256_text(r->result.diff_ids[i], text);
		if (strcmp(text, r->job->c->diff_ids[i]))
			return err_set(
				e, EBADMSG,
				"layer %zu is not the one that the image's configuration names",
				i + 1);
	}
	return 0;
}

/* Everything is right: now it gets its names. */
static int layers_commit(struct layers_run *r, struct err *e)
{
	char chain[DIGEST_SIZE];
	int rc = 0;

	if (r->converted)
		rc = layers_check_diff_ids(r, e);
	for (size_t i = 0; !rc && i < r->n; i++)
		if (r->layers[i].state == LAYER_READY)
			rc = store_name_blob(&r->layers[i].temp, r->layers[i].d->digest, e);
	if (!rc)
		rc = store_sync_blobs(r->job->w, e);
	if (rc || !r->converted)
		return rc;
	sha256_text(r->result.chain, chain);
	return store_commit_rootfs(&r->rootfs, chain, e);
}

static void layers_fini(struct layers_run *r, bool keep)
{
	convert_abort(r->converter);
	close_fd(&r->feed);
	store_temp_fini(&r->rootfs);
	for (size_t i = 0; i < r->n; i++) {
		struct pull_layer *l = &r->layers[i];

		close_fd(&l->body);
		digest_destroy(l->sha);
		if (keep)
			store_partial_keep(&l->temp);
		else
			store_temp_fini(&l->temp);
	}
	free(r->result.diff_ids);
	free(r->layers);
	free(r->which);
	free(r->show.layers);
	free(r->buf);
}

void pull_more_files(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max < LAYERS_OPEN_MAX ? l.rlim_max : LAYERS_OPEN_MAX;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

int pull_layers_run(struct pull_layers *job, struct err *e)
{
	struct layers_run r = { .job = job, .feed = -1, .rootfs = STORE_TEMP_INIT };
	auto_close int have = -1;
	char *rootfs;
	int rc = layers_list(&r, e);

	if (!rc) {
		rootfs = store_rootfs_path(store_writer_store(job->w), job->c);
		rc = rootfs ? 0 : err_errno(e, ENOMEM, "fetch the layers");
		r.converting = !rc && rootimage_open(rootfs, &have, NULL) != 0;
		free(rootfs);
	}
	for (size_t i = 0; !rc && job->fetch && i < r.n; i++)
		if (r.layers[i].state == LAYER_STORED)
			pull_show_line(&r.show, &r.show.layers[i]);
	if (!rc)
		rc = layers_begin(&r, e);
	if (!rc)
		rc = layers_loop(&r, e);
	pull_show_end(&r.show);
	if (!rc)
		rc = layers_commit(&r, e);
	progress_end();
	layers_fini(&r, rc == -EAGAIN || rc == -EHOSTUNREACH);
	return rc;
}
