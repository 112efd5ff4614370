/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: msb-fetch
 *
 * Purpose.  Speaks with image registries for msb-image: HTTP, TLS, tokens, redirections,
 * tries again.  What comes is passed on through pipes; this process has no file.
 *
 * Spec.  OCI distribution-spec 1.1 (pull); Docker's token authentication; RFC 9110.
 *
 * How.  A few workers, each with connections of its own, take requests from one socket;
 * so a request may block: a wait before the next try, a pipe that is full.  The wire is
 * codec/fetch_wire.h.  Proxies are those of the environment (https_proxy, no_proxy, …).
 *
 * Trust boundary.  The largest parsers that meet the network are here (libcurl, TLS), in a
 * jail with the host's network, the system's certificates and the resolver's files, read
 * only, and the system calls of confine.c.  It holds the passwords of the one registry
 * that it speaks with.  msb-image checks the digest of every byte.
 *
 * Failure.  A request's is told and ends that request.  If the socket ends, so does this.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "fetch/fetch.h"

static struct fetcher fetcher = { .sock = FETCH_FD_SOCKET, .lock = PTHREAD_MUTEX_INITIALIZER };

/* A message and the descriptor that it carries, if any. Return: bytes, 0 at the end. */
static ssize_t main_receive(void *to, size_t size, int *fd)
{
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { to, size };
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	const struct cmsghdr *c;
	ssize_t n;

	do
		n = recvmsg(fetcher.sock, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	*fd = -1;
	c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	if (c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(c), sizeof(int));
	return n;
}

static void *main_work(void *unused)
{
	CURL *easy = curl_easy_init();
	struct fetch_request r;
	int pipe;

	(void)unused;
	while (easy && main_receive(&r, sizeof(r), &pipe) == (ssize_t)sizeof(r)) {
		r.what[sizeof(r.what) - 1] = '\0';
		fetch_run(&fetcher, easy, &r, pipe);
	}
	if (easy)
		curl_easy_cleanup(easy);
	return NULL;
}

/* The certificates to trust come as a file; the system's are added by whoever wrote it. */
static int main_read_ca(struct err *e)
{
	struct stat st;
	void *p;

	if (fstat(FETCH_FD_CA, &st) < 0 || !st.st_size)
		return 0;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, FETCH_FD_CA, 0);
	if (p == MAP_FAILED)
		return err_errno(e, errno, "read the certificates");
	fetcher.ca = (struct curl_blob){ p, (size_t)st.st_size, CURL_BLOB_NOCOPY };
	return 0;
}

static int main_run(struct err *e)
{
	pthread_t workers[FETCH_WORKERS_MAX];
	unsigned n = 0;
	int fd, rc;

	if (main_receive(&fetcher.setup, sizeof(fetcher.setup), &fd) !=
		    (ssize_t)sizeof(fetcher.setup) ||
	    fetcher.setup.n_endpoints > FETCH_ENDPOINTS_MAX ||
	    fetcher.setup.workers > FETCH_WORKERS_MAX)
		return err_set(e, EPROTO, "msb-fetch is started by msb-image");
	rc = main_read_ca(e);
	if (rc)
		return rc;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return err_set(e, ENOTSUP, "libcurl cannot be used");
	rc = fetch_confine(e);
	if (rc)
		return rc;
	while (n < fetcher.setup.workers && pthread_create(&workers[n], NULL, main_work, NULL) == 0)
		n++;
	if (!n)
		return err_set(e, EAGAIN, "no thread can be started");
	while (n)
		pthread_join(workers[--n], NULL);
	return 0;
}

int main(void)
{
	struct err e = ERR_INIT;

	if (main_run(&e) == 0)
		return 0;
	fprintf(stderr, "error: msb-fetch: %s\n", err_text(&e));
	return 1;
}
