/* SPDX-License-Identifier: Apache-2.0 */
#include "image/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "codec/manifest.h"
#include "image/tool.h"
#include "sys/file.h"
#include "sys/parts.h"

#define FETCH_PIPE (1 << 20)
#define FETCH_THREADS 64 /* each worker's resolver has one of its own */

/* What libcurl takes from the environment: proxies. */
static const char *const fetch_env[] = { "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy",
					 "ALL_PROXY",  "no_proxy",    "NO_PROXY" };

static int fetch_spawn(int sock, int ca, struct child *out, struct err *e)
{
	char *argv[] = { (char *)"msb-fetch", NULL }, *env[ARRAY_SIZE(fetch_env) + 1] = { NULL };
	const struct child_fd fds[] = { { STDERR_FILENO, STDERR_FILENO },
					{ sock, FETCH_FD_SOCKET },
					{ ca, FETCH_FD_CA } };
	auto_free char *path = NULL;
	int rc = parts_path("msb-fetch", &path, e);
	const struct jail_bind binds[] = {
		{ "/usr", "/usr", true },
		{ "/lib", "/lib", true, true },
		{ "/lib64", "/lib64", true, true },
		{ "/etc/ld.so.cache", "/etc/ld.so.cache", false, true },
		{ "/etc/ssl/certs", "/etc/ssl/certs", false, true },
		{ "/etc/ssl/openssl.cnf", "/etc/ssl/openssl.cnf", false, true },
		{ "/etc/pki/tls/certs", "/etc/pki/tls/certs", false, true },
		{ "/etc/resolv.conf", "/etc/resolv.conf", false, true },
		{ "/etc/hosts", "/etc/hosts", false, true },
		{ "/etc/host.conf", "/etc/host.conf", false, true },
		{ "/etc/nsswitch.conf", "/etc/nsswitch.conf", false, true },
		{ "/etc/gai.conf", "/etc/gai.conf", false, true },
		{ path, "/msb-fetch", true },
	};
	const struct jail jail = {
		.mode = tool_jail_mode(),
		.host_network = true,
		.binds = binds,
		.n_binds = ARRAY_SIZE(binds),
		.max_fds = 256,
		.max_processes = FETCH_THREADS,
	};
	const struct child_spec spec = {
		.path = jail.mode == JAIL_FULL ? "/msb-fetch" : path,
		.argv = argv,
		.envp = env,
		.fds = fds,
		.n_fds = ARRAY_SIZE(fds),
		.jail = &jail,
		.die_with_parent = true,
	};
	size_t n = 0;

	if (rc)
		return rc;
	for (size_t i = 0; i < ARRAY_SIZE(fetch_env); i++) {
		const char *v = getenv(fetch_env[i]);

		if (v && asprintf(&env[n], "%s=%s", fetch_env[i], v) > 0)
			n++;
	}
	env[n] = NULL;
	rc = child_spawn(&spec, out, e);
	if (rc && jail.mode == JAIL_FULL)
		err_wrap(e, "cannot jail msb-fetch (--jail=reduced does without namespaces)");
	while (n)
		free(env[--n]);
	return rc;
}

int fetch_start(const struct fetch_setup *setup, const char *ca, struct fetch *out, struct err *e)
{
	auto_close int mine = -1, its = -1;
	auto_close int pem = memfd_create("certificates", MFD_CLOEXEC);
	struct fetch f = FETCH_INIT;
	int sv[2], rc;

	if (pem < 0 || (ca && file_write_all(pem, ca, strlen(ca))))
		return err_errno(e, errno, "start msb-fetch");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return err_errno(e, errno, "start msb-fetch: socketpair");
	mine = sv[0];
	its = sv[1];
	rc = fetch_spawn(its, pem, &f.child, e);
	if (rc)
		return rc;
	if (send(mine, setup, sizeof(*setup), MSG_NOSIGNAL) != (ssize_t)sizeof(*setup)) {
		rc = err_errno(e, errno, "start msb-fetch");
		child_kill(&f.child);
		return rc;
	}
	f.sock = take_fd(&mine);
	*out = f;
	return 0;
}

void fetch_stop(struct fetch *f)
{
	close_fd(&f->sock);
	child_kill(&f->child);
}

int fetch_send(struct fetch *f, const struct fetch_request *r, int *body, struct err *e)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { (void *)r, sizeof(*r) };
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	auto_close int rd = -1, wr = -1;
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_errno(e, errno, "ask the registry: pipe");
	rd = p[0];
	wr = p[1];
	/* A larger pipe means fewer wake-ups; a smaller one does too. */
	(void)fcntl(rd, F_SETPIPE_SZ, FETCH_PIPE);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &wr, sizeof(int));
	if (sendmsg(f->sock, &m, MSG_NOSIGNAL) != (ssize_t)sizeof(*r))
		return err_errno(e, errno, "ask the registry: msb-fetch");
	*body = take_fd(&rd);
	return 0;
}

static void fetch_printable(char *s, size_t size)
{
	s[size - 1] = '\0';
	for (; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			*s = '?';
}

int fetch_next(struct fetch *f, struct fetch_event *ev, struct err *e)
{
	char why[128];
	int status;
	ssize_t n;

	do
		n = recv(f->sock, ev, sizeof(*ev), 0);
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof(*ev)) {
		fetch_printable(ev->text, sizeof(ev->text));
		fetch_printable(ev->media_type, sizeof(ev->media_type));
		fetch_printable(ev->digest, sizeof(ev->digest));
		return 0;
	}
	if (n)
		return err_set(e, EPROTO, "msb-fetch sends what it should not");
	child_reap(&f->child, &status);
	child_status_text(status, why, sizeof(why));
	return err_set(e, EPROTO, "msb-fetch %s", why);
}

static int fetch_read_body(int fd, struct buf *b, bool *end, struct err *e)
{
	uint8_t *p;
	ssize_t n;
	int rc = buf_reserve(b, 65536, &p);

	if (rc)
		return err_set(e, -rc, "a document of more than %u MiB", MANIFEST_DOC_MAX >> 20);
	n = read(fd, p, 65536);
	if (n < 0 && errno == EINTR)
		return 0;
	if (n < 0)
		return err_errno(e, errno, "read what msb-fetch sends");
	buf_commit(b, (size_t)n);
	*end = !n;
	return 0;
}

/* Events and body, each as it comes, to the end of both. */
static int fetch_follow(struct fetch *f, int body, void (*note)(const char *text), struct buf *b,
			struct fetch_event *ev, struct err *e)
{
	bool end = false, told = false;
	int rc = 0;

	while (!rc && (!end || !told)) {
		struct pollfd p[] = { { end ? -1 : body, POLLIN, 0 },
				      { told ? -1 : f->sock, POLLIN, 0 } };

		if (poll(p, 2, -1) < 0) {
			rc = errno == EINTR ? 0 : err_errno(e, errno, "poll");
			continue;
		}
		if (p[0].revents)
			rc = fetch_read_body(body, b, &end, e);
		if (rc || !p[1].revents)
			continue;
		rc = fetch_next(f, ev, e);
		if (!rc && ev->kind == FETCH_EV_NOTE && note)
			note(ev->text);
		told = !rc && ev->kind != FETCH_EV_NOTE;
	}
	if (!rc && ev->kind == FETCH_EV_FAILED)
		rc = err_set(e, ev->code && ev->code < 4096 ? (int)ev->code : EIO, "%s", ev->text);
	return rc;
}

int fetch_doc(struct fetch *f, enum fetch_kind kind, const char *what, uint64_t size,
	      void (*note)(const char *text), char **out, size_t *len, struct fetch_event *done,
	      struct err *e)
{
	struct fetch_request r = { .kind = kind, .size = size, .max = MANIFEST_DOC_MAX };
	struct buf b = { .max = MANIFEST_DOC_MAX + 65536 + 1 };
	auto_close int body = -1;
	int rc;

	snprintf(r.what, sizeof(r.what), "%s", what);
	rc = fetch_send(f, &r, &body, e);
	if (!rc)
		rc = fetch_follow(f, body, note, &b, done, e);
	if (!rc && out) {
		*len = buf_len(&b);
		*out = malloc(*len + 1);
		if (*out) {
			if (*len)
				memcpy(*out, buf_data(&b), *len);
			(*out)[*len] = '\0';
		} else {
			rc = err_errno(e, ENOMEM, "read a document of the registry");
		}
	}
	buf_fini(&b);
	return rc;
}
