/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   The guest has placeholders for its secrets.  On connections to the hosts that a secret is
 *   for, codec/httpsub.c puts the values in.  All others are none of this file's business.
 *
 * How
 *   connect(), by which libslirp opens a connection, is ours (main.c), as accept() is for
 *   published ports.  It looks whether the address is one that a host of a secret was pinned to
 *   by an answer of our own DNS, and the port the secret's.  If so, then once the connection is
 *   there (secrets_fd_connected()) its descriptor becomes one end of a pair of sockets, and the
 *   host's socket goes to a struct secrets_conn with the other end.  So libslirp serves the
 *   guest as ever, and what stands in between sees a stream of bytes and no TCP.
 *
 * States of a connection
 *   waiting   libslirp's connect(2) is on its way; there is nothing but its descriptor
 *   open      bytes go both ways; each half ends by itself
 *   refused   the guest's request was ambiguous: the host's socket is reset, the guest is told in
 *             words if it has had no answer yet, and what it still sends is thrown away
 *
 * Who may get what
 *   The address must be pinned to a host of the secret when the connection begins (the guest can
 *   not choose what our resolvers say, only ask), and each request must name a host of it
 *   itself (httpsub.c).  What the scope and the rules say about the destination was judged before.
 *
 * Trust boundary
 *   Both sides are hostile.  The host's bytes are passed on and not looked at.  The values are in
 *   this process only, which cannot be traced and leaves no core (jail_seccomp()); they are
 *   wiped when they are not needed any more.
 *
 * Limits
 *   SECRETS_CONNS connections; the next is refused to the guest, unless one that was refused can give
 *   way.  Of each at most SECRETS_ROOM bytes wait for the guest, SECRETS_UP_MAX for the host, and a head.
 */
#include "net/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/policy.h"

#define SECRETS_ROOM (64u * 1024u)
#define SECRETS_UP_MAX (1024u * 1024u) /* as values are larger than placeholders */
#define SECRETS_HOST_NAME "host.microsandbox.internal" /* 10.0.2.4 in the guest's /etc/hosts */

enum secrets_state { SECRETS_WAITING, SECRETS_OPEN, SECRETS_REFUSED };

struct secrets_conn {
	enum secrets_state state;
	int slirp; /* libslirp's descriptor; -1 = it has closed it */
	int guest, host; /* ours: towards libslirp, towards the host; -1 = closed */
	int guest_at, host_at; /* in the poll set; -1 = not in it */
	bool guest_ended, host_ended; /* has said all */
	bool guest_told, host_told; /* knows that the other has */
	bool answered; /* the host has said something */
	struct httpsub sub;
	struct buf up, down; /* what waits for the host, for the guest */
	struct netaddr addr;
	uint16_t port;
	uint32_t logged; /* secrets whose use was logged */
};

/* Whose connect() it is. */
static struct secrets *secrets_self;

/* ---- life ----------------------------------------------------------------------- */

static int secrets_read(struct secrets *s, int fd, struct err *e)
{
	struct stat st;
	size_t len;
	char *text;
	int rc;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0 ||
	    st.st_size > (off_t)SECRET_TEXT_MAX)
		return err_set(e, EINVAL, "secrets: the descriptor is no file of at most %u bytes",
			       SECRET_TEXT_MAX);
	len = (size_t)st.st_size;
	text = malloc(len);
	if (!text)
		return err_errno(e, ENOMEM, "secrets");
	rc = pread(fd, text, len, 0) == (ssize_t)len
		     ? secret_list_parse(text, len, &s->list, e)
		     : err_set(e, EIO, "secrets: the descriptor cannot be read");
	explicit_bzero(text, len);
	free(text);
	return rc;
}

int secrets_init(struct secrets *s, int fd, const struct pins *pins, struct err *e)
{
	int rc;

	s->pins = pins;
	s->log_sent = s->log_refused = (struct log_limit)LOG_LIMIT(10, 1000);
	if (fd < 0)
		return 0;
	rc = secrets_read(s, fd, e);
	close(fd);
	if (rc)
		return rc;
	s->room = malloc(SECRETS_ROOM);
	if (!s->room)
		return err_errno(e, ENOMEM, "secrets");
	secrets_self = s;
	return 0;
}

static void secrets_free(struct secrets *s, struct secrets_conn *c)
{
	for (unsigned i = 0; i < s->n_conns; i++)
		if (s->conns[i] == c)
			s->conns[i--] = s->conns[--s->n_conns];
	close_fd(&c->guest);
	close_fd(&c->host);
	httpsub_fini(&c->sub);
	buf_fini(&c->up);
	buf_fini(&c->down);
	free(c);
}

void secrets_fini(struct secrets *s)
{
	if (secrets_self == s)
		secrets_self = NULL;
	while (s->n_conns)
		secrets_free(s, s->conns[0]);
	secret_list_fini(&s->list);
	free(s->room);
	s->room = NULL;
}

void secrets_log_summary(const struct secrets *s)
{
	if (s->list.n)
		log_info("event=secrets sent=%llu refused=%llu", (unsigned long long)s->sent,
			 (unsigned long long)s->refused);
}

/* ---- which connections ------------------------------------------------------------- */

static bool secrets_address(const struct sockaddr *sa, socklen_t len, struct netaddr *addr,
			    uint16_t *port)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	if (len >= sizeof(in) && sa->sa_family == AF_INET) {
		memcpy(&in, sa, sizeof(in));
		*addr = netaddr_v4(ntohl(in.sin_addr.s_addr));
		*port = ntohs(in.sin_port);
		return true;
	}
	if (len >= sizeof(in6) && sa->sa_family == AF_INET6) {
		memcpy(&in6, sa, sizeof(in6));
		memcpy(addr->b, &in6.sin6_addr, sizeof(addr->b));
		*port = ntohs(in6.sin6_port);
		return true;
	}
	return false;
}

/* The secrets for what @addr was pinned to. */
static uint32_t secrets_mask(const struct secrets *s, const struct netaddr *addr, uint16_t port)
{
	/* libslirp has turned the guest's 10.0.2.4 into this; a name never leads there. */
	const struct netaddr loopback = netaddr_v4(INADDR_LOOPBACK);
	const char *name = netaddr_equal(addr, &loopback) ? SECRETS_HOST_NAME : NULL;
	uint32_t mask = 0;
	size_t at = 0;

	do {
		for (unsigned i = 0; name && i < s->list.n; i++)
			if (secret_is_for(&s->list.v[i], name, port))
				mask |= 1u << i;
		name = pins_next(s->pins, addr, &at);
	} while (name);
	return mask;
}

static struct secrets_conn *secrets_find(struct secrets *s, int fd)
{
	for (unsigned i = 0; i < s->n_conns; i++)
		if (s->conns[i]->slirp == fd)
			return s->conns[i];
	return NULL;
}

/* One that was refused waits only for the guest's end. */
static bool secrets_make_room(struct secrets *s)
{
	for (unsigned i = 0; i < s->n_conns && s->n_conns == SECRETS_CONNS; i++)
		if (s->conns[i]->state == SECRETS_REFUSED)
			secrets_free(s, s->conns[i]);
	return s->n_conns < SECRETS_CONNS;
}

static int secrets_add(struct secrets *s, int fd, const struct netaddr *addr, uint16_t port,
		       uint32_t mask)
{
	struct secrets_conn *c = secrets_make_room(s) ? calloc(1, sizeof(*c)) : NULL;

	if (!c) {
		if (log_limit_pass(&s->log_refused, NULL))
			log_warn("event=secret-refused reason=\"more than %u connections\"",
				 SECRETS_CONNS);
		return -ECONNREFUSED;
	}
	c->slirp = fd;
	c->guest = c->host = c->guest_at = c->host_at = -1;
	c->addr = *addr;
	c->port = port;
	buf_init_secret(&c->up, SECRETS_UP_MAX);
	httpsub_init(&c->sub, s->list.v, mask, port);
	s->conns[s->n_conns++] = c;
	return 0;
}

int secrets_connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	struct secrets *s = secrets_self;
	socklen_t type_len = sizeof(int);
	struct netaddr addr;
	uint32_t mask = 0;
	uint16_t port;
	int type, rc;

	if (s && sa && secrets_address(sa, len, &addr, &port) &&
	    !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) && type == SOCK_STREAM)
		mask = secrets_mask(s, &addr, port);
	if (mask) {
		rc = secrets_add(s, fd, &addr, port, mask);
		if (rc) {
			errno = -rc;
			return -1;
		}
	}
	rc = (int)syscall(SYS_connect, fd, sa, len);
	if (rc < 0 && mask && errno != EINPROGRESS) {
		rc = errno;
		secrets_fd_closed(s, fd);
		errno = rc;
		rc = -1;
	}
	return rc;
}

/* ---- between guest and host ---------------------------------------------------------- */

void secrets_fd_connected(struct secrets *s, int fd)
{
	struct secrets_conn *c = secrets_find(s, fd);
	int pair[2];

	if (!c || c->state != SECRETS_WAITING)
		return;
	c->host = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (c->host < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
		/* It goes on with its placeholders. */
		if (log_limit_pass(&s->log_refused, NULL))
			log_warn("event=secret-refused reason=\"no descriptor is left\"");
		secrets_free(s, c);
		return;
	}
	c->guest = pair[1];
	dup3(pair[0], fd, O_CLOEXEC);
	close(pair[0]);
	c->state = SECRETS_OPEN;
}

/* The guest's connection ends with a reset: libslirp meets an error behind what it has to read. */
static void secrets_reset_guest(struct secrets_conn *c)
{
	if (c->slirp >= 0 && c->guest >= 0)
		send(c->slirp, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	close_fd(&c->guest);
}

static void secrets_reset_host(struct secrets_conn *c)
{
	static const struct linger reset = { .l_onoff = 1 };

	if (c->host >= 0)
		setsockopt(c->host, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close_fd(&c->host);
}

void secrets_fd_closed(struct secrets *s, int fd)
{
	struct secrets_conn *c = fd >= 0 ? secrets_find(s, fd) : NULL;

	if (!c)
		return;
	c->slirp = -1;
	if (c->state == SECRETS_WAITING)
		secrets_free(s, c);
}

static void secrets_log_sent(struct secrets *s, struct secrets_conn *c)
{
	uint32_t fresh = c->sub.used & ~c->logged;
	char text[NETADDR_TEXT];

	for (unsigned i = 0; i < s->list.n; i++)
		if (fresh & 1u << i && log_limit_pass(&s->log_sent, NULL))
			log_info("event=secret-sent secret=%s dst=%s port=%u", s->list.v[i].name,
				 netaddr_format(&c->addr, text), c->port);
	c->logged |= fresh;
}

/* Nothing more goes to the host; the guest is told, if it waits for its first answer. */
static void secrets_refuse(struct secrets *s, struct secrets_conn *c, const char *why)
{
	char text[NETADDR_TEXT], body[512], answer[1024];
	int n, len;

	s->refused++;
	if (log_limit_pass(&s->log_refused, NULL))
		log_warn("event=secret-refused dst=%s port=%u reason=\"%s\"",
			 netaddr_format(&c->addr, text), c->port, why);
	c->state = SECRETS_REFUSED;
	secrets_reset_host(c);
	if (c->sub.requests || c->answered) {
		secrets_reset_guest(c);
		return;
	}
	len = snprintf(body, sizeof(body),
		       "microsandbox: the request was not passed on, since a secret could go to "
		       "the wrong place: %s\n",
		       why);
	n = snprintf(answer, sizeof(answer),
		     "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n"
		     "Content-Length: %d\r\nConnection: close\r\n\r\n%s",
		     len, body);
	if (buf_append(&c->down, answer, (size_t)n))
		secrets_reset_guest(c);
	c->host_ended = true;
}

/* Return: false if there is nothing for now. *ended: at its end, or broken (errno, else 0). */
static bool secrets_receive(struct secrets *s, int fd, size_t *n, bool *ended, int *error)
{
	ssize_t got = recv(fd, s->room, SECRETS_ROOM, MSG_DONTWAIT);

	*n = 0;
	*error = 0;
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	*ended = got <= 0;
	*error = got < 0 ? errno : 0;
	*n = got > 0 ? (size_t)got : 0;
	return true;
}

/* Sends what waits, as far as it goes. Return: 0, or a negative errno: the other is gone. */
static int secrets_flush(int fd, struct buf *b)
{
	while (buf_len(b)) {
		ssize_t n = send(fd, buf_data(b), buf_len(b), MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		buf_consume(b, (size_t)n);
	}
	return 0;
}

static void secrets_from_guest(struct secrets *s, struct secrets_conn *c)
{
	const uint32_t used = c->sub.used;
	struct err e = ERR_INIT;
	size_t n;
	int error, rc;

	if (!secrets_receive(s, c->guest, &n, &c->guest_ended, &error))
		return;
	if (c->state == SECRETS_REFUSED)
		return; /* thrown away */
	if (error) {
		secrets_reset_host(c);
		return;
	}
	c->sub.used = 0;
	rc = c->guest_ended ? httpsub_finish(&c->sub, &c->up)
			    : httpsub_feed(&c->sub, s->room, n, &c->up, &e);
	s->sent += !!c->sub.used;
	secrets_log_sent(s, c);
	c->sub.used |= used;
	if (rc)
		secrets_refuse(s, c, err_text(&e));
}

static void secrets_from_host(struct secrets *s, struct secrets_conn *c)
{
	size_t n;
	int error;

	if (!secrets_receive(s, c->host, &n, &c->host_ended, &error))
		return;
	c->answered = true;
	if (error || buf_append(&c->down, s->room, n))
		secrets_reset_guest(c);
}

/* Is there nothing left to do for it? */
static bool secrets_is_over(const struct secrets_conn *c)
{
	if (c->guest < 0 || (c->host < 0 && c->state != SECRETS_REFUSED))
		return true;
	/* libslirp has closed its end, and what it had written went to the host. */
	if (c->guest_ended && c->slirp < 0 && !buf_len(&c->up))
		return true;
	return c->guest_ended && c->guest_told && (c->host < 0 || c->host_told);
}

/* Sends what there is, ends halves that are through, and the whole if it is over. */
static void secrets_settle(struct secrets *s, struct secrets_conn *c)
{
	if (c->host >= 0 && buf_len(&c->up)) {
		if (secrets_flush(c->host, &c->up))
			secrets_reset_guest(c);
		else if (!buf_len(&c->up) && c->sub.used)
			buf_reset(&c->up); /* values were in it */
	}
	if (c->guest >= 0 && buf_len(&c->down) && secrets_flush(c->guest, &c->down))
		close_fd(&c->guest);
	if (c->host >= 0 && c->guest_ended && !c->host_told && !buf_len(&c->up)) {
		shutdown(c->host, SHUT_WR);
		c->host_told = true;
	}
	if (c->guest >= 0 && c->host_ended && !c->guest_told && !buf_len(&c->down)) {
		shutdown(c->guest, SHUT_WR);
		c->guest_told = true;
	}
	if (!secrets_is_over(c))
		return;
	if (c->guest < 0)
		secrets_reset_host(c);
	else if (c->host < 0 && !c->guest_told)
		secrets_reset_guest(c);
	secrets_free(s, c);
}

/* ---- for the loop -------------------------------------------------------------------- */

static int secrets_poll(struct secrets *s, nfds_t *n, int fd, bool read, bool write)
{
	const short want = (short)((read ? POLLIN : 0) | (write ? POLLOUT : 0));

	/* An end that is waited for no more would wake us up again and again. */
	if (fd < 0 || !want)
		return -1;
	s->fds[*n] = (struct pollfd){ .fd = fd, .events = want };
	return (int)(*n)++;
}

nfds_t secrets_fill(struct secrets *s, struct pollfd *fds)
{
	nfds_t n = 0;

	s->fds = fds;
	for (unsigned i = 0; i < s->n_conns; i++) {
		struct secrets_conn *c = s->conns[i];

		if (c->state == SECRETS_WAITING)
			continue;
		c->guest_at = secrets_poll(s, &n, c->guest, !c->guest_ended && !buf_len(&c->up),
					   buf_len(&c->down));
		c->host_at = secrets_poll(s, &n, c->host, !c->host_ended && !buf_len(&c->down),
					  buf_len(&c->up));
	}
	return n;
}

static bool secrets_ready(const struct secrets *s, int at)
{
	return at >= 0 && s->fds[at].revents;
}

void secrets_serve(struct secrets *s)
{
	/* From the end: one that goes is replaced by one that was served. */
	for (unsigned i = s->n_conns; i-- > 0;) {
		struct secrets_conn *c = s->conns[i];
		bool guest = secrets_ready(s, c->guest_at), host = secrets_ready(s, c->host_at);

		if (c->state == SECRETS_WAITING || (!guest && !host))
			continue;
		if (guest && !c->guest_ended && !buf_len(&c->up))
			secrets_from_guest(s, c);
		if (host && c->host >= 0 && !c->host_ended && !buf_len(&c->down))
			secrets_from_host(s, c);
		secrets_settle(s, c);
	}
}
