/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File requests and metrics, over a link, with the agent as a part of this process.  The
 * other end of the link is a watch in the agent's own loop, which ends the run when the
 * last message of the request has come.
 */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <limits.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/checked.h"
#include "base/mem.h"

#define CHANNEL 5

struct fixture {
	struct agent agent;
	sigset_t mask; /* as it was before the agent */
	struct loop_watch watch;
	int fd; /* our end of the link */
	struct buf in, out;
	char dir[64], user[16];
	/* what to do */
	const uint8_t *data; /* of STREAM_IN */
	size_t data_len, sent;
	bool eof; /* after the data */
	bool no_credit; /* read, and say nothing */
	size_t stop_after; /* bytes of STREAM_OUT or STREAM_IN, then the run ends */
	/* what came */
	uint32_t window;
	bool eof_sent, eof_seen;
	struct buf got;
	uint16_t last; /* type of the last message */
	struct frame_file_done done;
	struct frame_metrics_reply metrics;
	uint32_t code;
	char text[2048]; /* of the error, or the target */
};

static void send_frame(struct fixture *x, uint16_t type, uint16_t flags, const void *msg)
{
	assert_int_equal(frame_encode(&x->out, CHANNEL, type, flags, msg), 0);
}

static void flush(struct fixture *x)
{
	ssize_t n = 1;

	while (buf_len(&x->out) && n > 0) {
		n = send(x->fd, buf_data(&x->out), buf_len(&x->out), MSG_NOSIGNAL);
		if (n > 0)
			buf_consume(&x->out, (size_t)n);
	}
	loop_watch_set(&x->watch, buf_len(&x->out) ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void feed(struct fixture *x)
{
	while (x->sent < x->data_len && x->window) {
		size_t n = min_u64(min_u64(x->window, FRAME_DATA_MAX), x->data_len - x->sent);

		assert_int_equal(frame_encode_raw(&x->out, CHANNEL, FRAME_DATA, STREAM_IN,
						  x->data + x->sent, n),
				 0);
		x->sent += n;
		x->window -= (uint32_t)n;
	}
	if (x->sent == x->data_len && x->eof && !x->eof_sent) {
		send_frame(x, FRAME_EOF, STREAM_IN, NULL);
		x->eof_sent = true;
	}
	if (x->stop_after && x->data && x->sent >= x->stop_after)
		x->agent.ended = true;
}

static void got_frame(struct fixture *x, const struct frame *f)
{
	struct frame_credit credit = { .bytes = f->len };
	struct frame_error error;

	if (f->type == FRAME_HELLO_ACK) {
		x->agent.ended = true;
		return;
	}
	assert_int_equal(f->channel, CHANNEL);
	switch (f->type) {
	case FRAME_DATA:
		assert_int_equal(f->flags, STREAM_OUT);
		assert_false(x->eof_seen);
		assert_int_equal(buf_append(&x->got, f->body, f->len), 0);
		if (!x->no_credit)
			send_frame(x, FRAME_CREDIT, STREAM_OUT, &credit);
		if (x->stop_after && buf_len(&x->got) >= x->stop_after)
			x->agent.ended = true;
		return;
	case FRAME_EOF:
		x->eof_seen = true;
		return;
	case FRAME_CREDIT:
		assert_int_equal(frame_decode(f, &credit, sizeof(credit)), 0);
		x->window += credit.bytes;
		return;
	case FRAME_FILE_DONE:
		assert_int_equal(frame_decode(f, &x->done, sizeof(x->done)), 0);
		assert_int_equal(frame_str_copy(&x->done.target, x->text, sizeof(x->text)), 0);
		break;
	case FRAME_METRICS_REPLY:
		assert_int_equal(frame_decode(f, &x->metrics, sizeof(x->metrics)), 0);
		break;
	case FRAME_ERROR:
		assert_int_equal(frame_decode(f, &error, sizeof(error)), 0);
		x->code = error.code;
		assert_int_equal(frame_str_copy(&error.message, x->text, sizeof(x->text)), 0);
		break;
	default:
		fail_msg("unexpected %s", frame_type_name(f->type));
	}
	assert_int_equal(x->last, 0);
	x->last = f->type;
	x->agent.ended = true;
}

static void on_event(struct loop_watch *w, uint32_t events)
{
	struct fixture *x = container_of(w, struct fixture, watch);
	struct frame f;
	uint8_t *p;
	ssize_t n;
	int used;

	(void)events;
	assert_int_equal(buf_reserve(&x->in, 65536, &p), 0);
	n = recv(x->fd, p, 65536, 0);
	if (n > 0)
		buf_commit(&x->in, (size_t)n);
	while ((used = frame_parse(buf_data(&x->in), buf_len(&x->in), &f)) > 0) {
		got_frame(x, &f);
		buf_consume(&x->in, (size_t)used);
	}
	assert_int_equal(used, 0);
	feed(x);
	flush(x);
}

static void run(struct fixture *x)
{
	x->agent.ended = false;
	flush(x);
	assert_int_equal(agent_run(&x->agent), 0);
}

static void ended_by_reaping(struct agent *a)
{
	a->ended = list_empty(&a->procs);
}

/* Until nothing of the agent's runs any more. */
static void run_to_rest(struct fixture *x)
{
	if (list_empty(&x->agent.procs))
		return;
	x->agent.reaped = ended_by_reaping;
	run(x);
	x->agent.reaped = NULL;
}

static void begin(struct fixture *x)
{
	static const struct agent_platform platform = { 0 };
	struct frame_hello hello = { .version = FRAME_VERSION,
				     .version_min = FRAME_VERSION,
				     .link = LINK_BULK };
	struct err e = ERR_INIT;
	int fds[2];

	*x = (struct fixture){ 0 };
	snprintf(x->dir, sizeof(x->dir), "/tmp/msb-test-files-XXXXXX");
	assert_non_null(mkdtemp(x->dir));
	snprintf(x->user, sizeof(x->user), "%u", (unsigned)geteuid());
	sigprocmask(SIG_SETMASK, NULL, &x->mask);
	assert_int_equal(agent_init(&x->agent, &platform, "test", &e), 0);
	x->agent.proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	x->agent.configured = true;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	x->fd = fds[0];
	assert_int_equal(link_create(&x->agent, LINK_BULK, fds[1], &e), 0);
	loop_watch_init(&x->watch, on_event);
	assert_int_equal(loop_watch_add(x->agent.loop, &x->watch, x->fd, EPOLLIN), 0);
	memcpy(hello.magic, FRAME_MAGIC, FRAME_MAGIC_SIZE);
	assert_int_equal(frame_encode(&x->out, 0, FRAME_HELLO, 0, &hello), 0);
	run(x);
}

static void end(struct fixture *x)
{
	char cmd[128];

	loop_watch_remove(&x->watch);
	close_fd(&x->fd);
	agent_fini(&x->agent);
	sigprocmask(SIG_SETMASK, &x->mask, NULL);
	buf_fini(&x->in);
	buf_fini(&x->out);
	buf_fini(&x->got);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", x->dir);
	assert_int_equal(system(cmd), 0);
}

static const char *at(struct fixture *x, const char *name)
{
	static char paths[4][PATH_MAX];
	static unsigned next;
	char *p = paths[next++ % 4];

	snprintf(p, PATH_MAX, "%s/%s", x->dir, name);
	return p;
}

/* Puts a request on its way; the caller says what else to send. */
static void start(struct fixture *x, uint16_t type, struct frame_file req, const char *path)
{
	req.path = frame_str_of(path);
	if (!req.user.len)
		req.user = frame_str_of(x->user);
	x->data = NULL;
	x->data_len = x->sent = x->stop_after = 0;
	x->eof = x->eof_sent = x->eof_seen = x->no_credit = false;
	x->window = FRAME_WINDOW;
	x->last = 0;
	x->code = 0;
	x->text[0] = '\0';
	x->done = (struct frame_file_done){ 0 };
	buf_reset(&x->got);
	send_frame(x, type, 0, &req);
}

/* Return: 0, or the errno of the answer. */
static uint32_t request(struct fixture *x, uint16_t type, struct frame_file req, const char *path)
{
	start(x, type, req, path);
	run(x);
	return x->code;
}

static uint32_t write_file(struct fixture *x, struct frame_file req, const char *path,
			   const void *data, size_t n)
{
	start(x, FRAME_FILE_WRITE, req, path);
	x->data = data;
	x->data_len = n;
	x->eof = true;
	feed(x);
	run(x);
	return x->code;
}

#define FILE_REQ(...) ((struct frame_file){ __VA_ARGS__ })

static void assert_content(struct fixture *x, const char *path, const void *data, size_t n)
{
	assert_int_equal(request(x, FRAME_FILE_READ, FILE_REQ(0), path), 0);
	assert_true(x->eof_seen);
	assert_int_equal(buf_len(&x->got), n);
	assert_memory_equal(buf_data(&x->got), data, n);
}

static unsigned count_entries(const char *path)
{
	DIR *d = opendir(path);
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static uint8_t *pattern(size_t n)
{
	uint8_t *p = malloc(n);
	uint32_t v = 1;

	assert_non_null(p);
	for (size_t i = 0; i < n; i++) {
		v = v * 1664525u + 1013904223u;
		p[i] = (uint8_t)(v >> 24);
	}
	return p;
}

static void test_content_is_exact(void **state)
{
	static const size_t sizes[] = { 0, 1, FRAME_DATA_MAX, FRAME_WINDOW + 1, 3000001 };
	auto_free uint8_t *data = pattern(3000001);
	struct fixture x;

	(void)state;
	begin(&x);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_int_equal(write_file(&x, FILE_REQ(.mode = 0640), at(&x, "f"), data, sizes[i]),
				 0);
		assert_int_equal(x.done.mode, S_IFREG | 0640);
		assert_int_equal(x.done.size, sizes[i]);
		assert_content(&x, at(&x, "f"), data, sizes[i]);
	}
	assert_int_equal(count_entries(x.dir), 1);
	request(&x, FRAME_FILE_READ, FILE_REQ(.offset = 2000000, .length = 7), at(&x, "f"));
	assert_int_equal(buf_len(&x.got), 7);
	assert_memory_equal(buf_data(&x.got), data + 2000000, 7);
	request(&x, FRAME_FILE_READ, FILE_REQ(.offset = 3000000, .length = 100), at(&x, "f"));
	assert_int_equal(buf_len(&x.got), 1);
	request(&x, FRAME_FILE_READ, FILE_REQ(.offset = 1ull << 40), at(&x, "f"));
	assert_int_equal(x.last, FRAME_FILE_DONE);
	assert_int_equal(buf_len(&x.got), 0);
	end(&x);
}

static void test_write_flags(void **state)
{
	struct fixture x;
	struct stat st;

	(void)state;
	begin(&x);
	assert_int_equal(write_file(&x, FILE_REQ(0), at(&x, "a/b/f"), "x", 1), ENOENT);
	assert_non_null(strstr(x.text, "a/b/f"));
	assert_int_equal(write_file(&x, FILE_REQ(.flags = FILE_PARENTS), at(&x, "a/b/f"), "x", 1),
			 0);
	assert_int_equal(x.done.mode, S_IFREG | 0644);
	assert_int_equal(write_file(&x, FILE_REQ(.flags = FILE_EXCL), at(&x, "a/b/f"), "y", 1),
			 EEXIST);
	assert_int_equal(write_file(&x, FILE_REQ(.flags = FILE_APPEND), at(&x, "a/b/f"), "yz", 2),
			 0);
	assert_content(&x, at(&x, "a/b/f"), "xyz", 3);
	/* Without a mode, that of the file stays. */
	assert_int_equal(chmod(at(&x, "a/b/f"), 0751), 0);
	assert_int_equal(symlink("b/f", at(&x, "a/link")), 0);
	assert_int_equal(write_file(&x, FILE_REQ(0), at(&x, "a/link"), "new", 3), 0);
	assert_int_equal(x.done.mode, S_IFREG | 0751);
	assert_int_equal(lstat(at(&x, "a/link"), &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_content(&x, at(&x, "a/b/f"), "new", 3);
	assert_int_equal(write_file(&x, FILE_REQ(.flags = FILE_EXCL), at(&x, "a/b/g"), "g", 1), 0);
	assert_int_equal(write_file(&x, FILE_REQ(0), at(&x, "a"), "g", 1), EISDIR);
	assert_int_equal(count_entries(at(&x, "a/b")), 2);
	assert_int_equal(count_entries(at(&x, "a")), 2);
	end(&x);
}

/* The ways in which a write ends before its content does; with and without O_TMPFILE. */
static void abandon(bool named, bool replace, bool lose_link)
{
	auto_free uint8_t *data = pattern(2000000);
	struct fixture x;

	begin(&x);
	if (named)
		close_fd(&x.agent.proc_fd);
	if (replace)
		assert_int_equal(write_file(&x, FILE_REQ(0), at(&x, "f"), "old", 3), 0);
	start(&x, FRAME_FILE_WRITE, FILE_REQ(0), at(&x, "f"));
	x.data = data;
	x.data_len = 2000000;
	x.stop_after = 1500000; /* beyond the window: the helper is at it */
	feed(&x);
	run(&x);
	assert_int_equal(x.last, 0);
	x.data = NULL;
	x.data_len = x.sent = x.stop_after = 0;
	if (lose_link) {
		loop_watch_remove(&x.watch);
		assert_int_equal(shutdown(x.fd, SHUT_RDWR), 0);
		run_to_rest(&x);
	} else {
		send_frame(&x, FRAME_CLOSE, 0, NULL);
		run(&x);
		assert_int_equal(x.last, FRAME_ERROR);
		assert_int_equal(x.code, ECANCELED);
	}
	assert_int_equal(count_entries(x.dir), replace ? 1 : 0);
	if (replace && !lose_link)
		assert_content(&x, at(&x, "f"), "old", 3);
	end(&x);
}

static void test_abandoned_write_leaves_nothing(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 8; i++)
		abandon(i & 1, i & 2, i & 4);
}

static void test_named_temporary_file(void **state)
{
	struct fixture x;

	(void)state;
	begin(&x);
	close_fd(&x.agent.proc_fd);
	for (int i = 0; i < 2; i++)
		assert_int_equal(write_file(&x, FILE_REQ(.mode = 0600), at(&x, "f"), "abc", 3), 0);
	assert_int_equal(write_file(&x, FILE_REQ(.flags = FILE_EXCL), at(&x, "f"), "d", 1), EEXIST);
	assert_int_equal(write_file(&x, FILE_REQ(.flags = FILE_EXCL), at(&x, "g"), "d", 1), 0);
	assert_content(&x, at(&x, "f"), "abc", 3);
	assert_int_equal(count_entries(x.dir), 2);
	end(&x);
}

/* The helper is killed (here by a limit on the size of files): an error, and no file. */
static void test_helper_that_dies(void **state)
{
	auto_free uint8_t *data = pattern(500000);
	struct rlimit old, tight;
	struct fixture x;

	(void)state;
	begin(&x);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	tight = (struct rlimit){ 100000, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
	write_file(&x, FILE_REQ(0), at(&x, "f"), data, 500000);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(x.last, FRAME_ERROR);
	assert_int_equal(count_entries(x.dir), 0);
	assert_int_equal(write_file(&x, FILE_REQ(0), at(&x, "f"), data, 500000), 0);
	end(&x);
}

static void test_only_regular_files_have_content(void **state)
{
	struct fixture x;

	(void)state;
	begin(&x);
	assert_int_equal(mkfifo(at(&x, "fifo"), 0600), 0);
	assert_int_equal(request(&x, FRAME_FILE_READ, FILE_REQ(0), at(&x, "fifo")), EINVAL);
	assert_non_null(strstr(x.text, at(&x, "fifo")));
	assert_non_null(strstr(x.text, "FIFO"));
	assert_int_equal(write_file(&x, FILE_REQ(0), at(&x, "fifo"), "x", 1), EINVAL);
	assert_int_equal(write_file(&x, FILE_REQ(.flags = FILE_APPEND), at(&x, "fifo"), "x", 1),
			 EINVAL);
	assert_int_equal(request(&x, FRAME_FILE_READ, FILE_REQ(0), "/dev/zero"), EINVAL);
	assert_int_equal(request(&x, FRAME_FILE_READ, FILE_REQ(0), x.dir), EISDIR);
	assert_int_equal(request(&x, FRAME_FILE_LIST, FILE_REQ(0), at(&x, "fifo")), ENOTDIR);
	assert_int_equal(request(&x, FRAME_FILE_READ, FILE_REQ(0), at(&x, "none")), ENOENT);
	end(&x);
}

static void test_list(void **state)
{
	static bool seen[2000];
	struct frame_dirent d;
	struct fixture x;
	unsigned i, n = 0;
	char name[128];
	int used;

	(void)state;
	begin(&x);
	memset(seen, 0, sizeof(seen));
	assert_int_equal(request(&x, FRAME_FILE_LIST, FILE_REQ(0), x.dir), 0);
	assert_int_equal(buf_len(&x.got), 0);
	for (i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "%s/entry-with-a-long-enough-name-%u", x.dir, i);
		assert_int_equal(symlink("0123456789", name), 0);
	}
	assert_int_equal(request(&x, FRAME_FILE_LIST, FILE_REQ(0), x.dir), 0);
	assert_true(S_ISDIR(x.done.mode));
	while ((used = frame_decode_dirent(buf_data(&x.got), buf_len(&x.got), &d)) > 0) {
		assert_int_equal(frame_str_copy(&d.name, name, sizeof(name)), 0);
		assert_int_equal(sscanf(name, "entry-with-a-long-enough-name-%u", &i), 1);
		assert_true(i < 2000 && !seen[i]);
		seen[i] = true;
		assert_true(S_ISLNK(d.mode));
		assert_int_equal(d.size, 10);
		assert_int_equal(d.uid, geteuid());
		buf_consume(&x.got, (size_t)used);
		n++;
	}
	assert_int_equal(buf_len(&x.got), 0);
	assert_int_equal(n, 2000);
	end(&x);
}

static void test_stat_mkdir_rename(void **state)
{
	struct fixture x;

	(void)state;
	begin(&x);
	assert_int_equal(request(&x, FRAME_FILE_MKDIR, FILE_REQ(.mode = 01777), at(&x, "d")), 0);
	assert_int_equal(x.done.mode, S_IFDIR | 01777);
	assert_int_equal(request(&x, FRAME_FILE_MKDIR, FILE_REQ(0), at(&x, "d")), EEXIST);
	assert_int_equal(request(&x, FRAME_FILE_MKDIR, FILE_REQ(.flags = FILE_PARENTS), at(&x, "d")),
			 0);
	assert_int_equal(request(&x, FRAME_FILE_MKDIR, FILE_REQ(0), at(&x, "p/q/")), ENOENT);
	assert_int_equal(request(&x, FRAME_FILE_MKDIR, FILE_REQ(.flags = FILE_PARENTS),
				 at(&x, "p//q/")),
			 0);
	assert_int_equal(symlink("p/q", at(&x, "l")), 0);
	assert_int_equal(request(&x, FRAME_FILE_STAT, FILE_REQ(0), at(&x, "l")), 0);
	assert_true(S_ISLNK(x.done.mode));
	assert_string_equal(x.text, "p/q");
	assert_int_equal(request(&x, FRAME_FILE_STAT, FILE_REQ(.flags = FILE_FOLLOW), at(&x, "l")),
			 0);
	assert_true(S_ISDIR(x.done.mode));
	assert_string_equal(x.text, "");
	assert_int_equal(request(&x, FRAME_FILE_RENAME, FILE_REQ(.to = frame_str_of(at(&x, "m"))),
				 at(&x, "l")),
			 0);
	assert_true(S_ISLNK(x.done.mode));
	assert_int_equal(request(&x, FRAME_FILE_RENAME, FILE_REQ(.to = frame_str_of(at(&x, "m"))),
				 at(&x, "l")),
			 ENOENT);
	assert_int_equal(request(&x, FRAME_FILE_STAT, FILE_REQ(0), at(&x, "l")), ENOENT);
	end(&x);
}

static void test_remove(void **state)
{
	struct rlimit old, tight;
	struct fixture x;
	int fd;

	(void)state;
	begin(&x);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	tight = (struct rlimit){ 300, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	assert_int_equal(mkdir(at(&x, "keep"), 0755), 0);
	assert_int_equal(mkdir(at(&x, "keep/inner"), 0755), 0);
	assert_int_equal(mkdir(at(&x, "tree"), 0755), 0);
	assert_int_equal(symlink("../keep", at(&x, "tree/link")), 0);
	/* Deeper than the descriptors that may be open at once. */
	fd = open(at(&x, "tree"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (unsigned i = 0; i < 2000; i++) {
		int deeper;

		assert_int_equal(mkdirat(fd, "d", 0755), 0);
		assert_int_equal(symlinkat("/", fd, "root"), 0);
		deeper = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(deeper >= 0);
		close(fd);
		fd = deeper;
	}
	close(fd);
	assert_int_equal(request(&x, FRAME_FILE_REMOVE, FILE_REQ(0), at(&x, "tree")), ENOTEMPTY);
	assert_int_equal(request(&x, FRAME_FILE_REMOVE, FILE_REQ(.flags = FILE_RECURSIVE),
				 at(&x, "tree/")),
			 0);
	assert_int_equal(access(at(&x, "tree"), F_OK), -1);
	/* A link to a directory is the link, not the directory. */
	assert_int_equal(symlink("keep", at(&x, "link")), 0);
	assert_int_equal(request(&x, FRAME_FILE_REMOVE, FILE_REQ(.flags = FILE_RECURSIVE),
				 at(&x, "link/")),
			 0);
	assert_int_equal(access(at(&x, "link"), F_OK), -1);
	assert_int_equal(access(at(&x, "keep/inner"), F_OK), 0);
	assert_int_equal(request(&x, FRAME_FILE_REMOVE, FILE_REQ(0), at(&x, "keep/inner")), 0);
	assert_int_equal(request(&x, FRAME_FILE_REMOVE, FILE_REQ(0), at(&x, "keep/inner")), ENOENT);
	assert_int_equal(request(&x, FRAME_FILE_REMOVE, FILE_REQ(.flags = FILE_RECURSIVE), "/"),
			 EINVAL);
	assert_int_equal(request(&x, FRAME_FILE_REMOVE, FILE_REQ(.flags = FILE_RECURSIVE),
				 at(&x, "keep/..")),
			 EINVAL);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	end(&x);
}

static void test_bad_requests(void **state)
{
	char longest[PATH_MAX + 1];
	struct fixture x;

	(void)state;
	begin(&x);
	assert_int_equal(request(&x, FRAME_FILE_STAT, FILE_REQ(0), "tmp"), EINVAL);
	assert_int_equal(request(&x, FRAME_FILE_STAT, FILE_REQ(0), ""), EINVAL);
	memset(longest, 'x', sizeof(longest));
	longest[0] = '/';
	longest[PATH_MAX] = '\0';
	assert_int_equal(request(&x, FRAME_FILE_STAT, FILE_REQ(0), longest), ENAMETOOLONG);
	/* A message has room for why it failed, however long the path is. */
	longest[PATH_MAX - 1] = '\0';
	assert_int_equal(request(&x, FRAME_FILE_STAT, FILE_REQ(0), longest), ENAMETOOLONG);
	assert_non_null(strstr(x.text, strerror(ENAMETOOLONG)));
	assert_int_equal(request(&x, FRAME_FILE_READ, FILE_REQ(.flags = FILE_APPEND), x.dir),
			 EINVAL);
	assert_int_equal(request(&x, FRAME_FILE_MKDIR, FILE_REQ(.mode = 0100755), at(&x, "d")),
			 EINVAL);
	assert_int_equal(request(&x, FRAME_FILE_READ, FILE_REQ(.offset = INT64_MAX, .length = 1),
				 x.dir),
			 EINVAL);
	assert_int_equal(request(&x, FRAME_FILE_RENAME, FILE_REQ(.to = frame_str_of("d")), x.dir),
			 EINVAL);
	assert_int_equal(request(&x, FRAME_FILE_STAT,
				 FILE_REQ(.user = frame_str_of("no such user")), "/"),
			 EINVAL);
	assert_non_null(strstr(x.text, "no such user"));
	assert_int_equal(count_entries(x.dir), 0);
	/* Content for a request that has none ends it. */
	assert_int_equal(write_file(&x, FILE_REQ(0), at(&x, "f"), "x", 1), 0);
	start(&x, FRAME_FILE_READ, FILE_REQ(0), at(&x, "f"));
	x.data = (const uint8_t *)"x";
	x.data_len = 1;
	feed(&x);
	run(&x);
	assert_int_equal(x.code, ECANCELED);
	end(&x);
}

/* Whoever gives no credit gets one window, and what waits is not in our memory. */
static void test_read_keeps_to_the_window(void **state)
{
	auto_free uint8_t *data = pattern(2000000);
	struct frame_credit credit = { .bytes = 1000 };
	struct fixture x;

	(void)state;
	begin(&x);
	assert_int_equal(write_file(&x, FILE_REQ(0), at(&x, "f"), data, 2000000), 0);
	start(&x, FRAME_FILE_READ, FILE_REQ(0), at(&x, "f"));
	x.no_credit = true;
	x.stop_after = FRAME_WINDOW;
	run(&x);
	assert_int_equal(buf_len(&x.got), FRAME_WINDOW);
	send_frame(&x, FRAME_CREDIT, STREAM_OUT, &credit);
	x.stop_after += 1000;
	run(&x);
	assert_int_equal(buf_len(&x.got), FRAME_WINDOW + 1000);
	assert_memory_equal(buf_data(&x.got), data, FRAME_WINDOW + 1000);
	send_frame(&x, FRAME_CLOSE, 0, NULL);
	run(&x);
	assert_int_equal(x.code, ECANCELED);
	assert_int_equal(buf_len(&x.got), FRAME_WINDOW + 1000);
	end(&x);
}

static void test_metrics(void **state)
{
	struct fixture x;

	(void)state;
	begin(&x);
	send_frame(&x, FRAME_METRICS, 0, NULL);
	run(&x);
	assert_int_equal(x.last, FRAME_METRICS_REPLY);
	assert_int_equal(x.metrics.cpus, sysconf(_SC_NPROCESSORS_ONLN));
	assert_int_equal(x.metrics.mem_total / 4096,
			 (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 4096);
	assert_true(x.metrics.mem_available && x.metrics.mem_available <= x.metrics.mem_total);
	assert_true(x.metrics.disk_available && x.metrics.disk_available <= x.metrics.disk_total);
	assert_true(x.metrics.uptime_ns && x.metrics.cpu_user_ns && x.metrics.cpu_system_ns);
	end(&x);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(test_content_is_exact),
		TEST(test_write_flags),
		TEST(test_abandoned_write_leaves_nothing),
		TEST(test_named_temporary_file),
		TEST(test_helper_that_dies),
		TEST(test_only_regular_files_have_content),
		TEST(test_list),
		TEST(test_stat_mkdir_rename),
		TEST(test_remove),
		TEST(test_bad_requests),
		TEST(test_read_keeps_to_the_window),
		TEST(test_metrics),
	};

	return test_run(tests);
}
