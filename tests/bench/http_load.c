/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_load: cheap requests at a given rate, on kept-alive connections to this machine.
 *
 *   http_load --port N [--connections N] [--rate N] (--count N | --seconds N)
 *             --request 'NAME STATUS METHOD PATH [BODY]' ...
 *
 * The requests take turns.  One is in flight on each connection; with --rate they are begun
 * evenly, and one that found no idle connection in time is late (and its lateness part of
 * what it took), so that a server that stalls does not look fast.  Prints one JSON object;
 * an answer with another status, a closed connection and a malformed answer are errors.  The
 * exit status is 1 if there was one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 1024
#define REQUESTS_MAX 16
#define ANSWER_MAX (64u << 10)
#define BUCKET_US 20u /* of the histogram */
#define BUCKETS 100000u
#define STALL_S 20 /* nothing comes any more: given up */

struct kind {
	char name[32];
	int status;
	char *text;
	size_t len;
	uint64_t done;
};

struct connection {
	int fd;
	struct kind *busy; /* NULL = idle */
	uint64_t due_ns; /* when its request should have been begun */
	char in[ANSWER_MAX];
	size_t n;
};

struct load {
	struct kind kinds[REQUESTS_MAX];
	size_t n_kinds;
	struct connection *conns;
	unsigned n_conns, n_idle;
	unsigned *idle; /* a stack */
	int epoll;
	double rate;
	uint64_t count, seconds;
	uint64_t begun, done, errors, begin_ns, max_us;
	char first_error[256];
	uint32_t histogram[BUCKETS];
};

static uint64_t load_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static _Noreturn void load_die(const char *what)
{
	fprintf(stderr, "http_load: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void load_error(struct load *l, const char *what, const char *detail, int n)
{
	if (!l->errors++)
		snprintf(l->first_error, sizeof(l->first_error), "%s: %.*s", what, n, detail);
}

static int load_connect(uint16_t port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		load_die("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

/* 'NAME STATUS METHOD PATH [BODY]' */
static void load_add_kind(struct load *l, const char *spec)
{
	struct kind *k = &l->kinds[l->n_kinds];
	char method[16], path[256];
	int at = 0, n;

	if (l->n_kinds == REQUESTS_MAX ||
	    sscanf(spec, "%31s %d %15s %255s %n", k->name, &k->status, method, path, &at) != 4) {
		fprintf(stderr, "http_load: bad --request '%s'\n", spec);
		exit(2);
	}
	n = asprintf(&k->text, "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s",
		     method, path, strlen(spec + at), spec + at);
	if (n < 0)
		load_die("request");
	k->len = (size_t)n;
	l->n_kinds++;
}

static void load_begin(struct load *l, uint64_t due)
{
	struct connection *c = &l->conns[l->idle[--l->n_idle]];
	struct kind *k = &l->kinds[l->begun % l->n_kinds];

	l->begun++;
	c->busy = k;
	c->due_ns = due;
	c->n = 0;
	if (send(c->fd, k->text, k->len, MSG_NOSIGNAL) != (ssize_t)k->len)
		load_error(l, "send", strerror(errno), 64);
}

/* Return: 1 if the answer is whole, 0 if more has to come, -1 if it makes no sense. */
static int load_whole(const struct connection *c)
{
	const char *end = memmem(c->in, c->n, "\r\n\r\n", 4), *p;
	size_t head;

	if (!end)
		return c->n < ANSWER_MAX - 1 ? 0 : -1;
	head = (size_t)(end - c->in) + 4;
	p = memmem(c->in, head, "\r\nContent-Length: ", 18);
	if (!p || strncmp(c->in, "HTTP/1.1 ", 9))
		return -1;
	head += strtoul(p + 18, NULL, 10);
	return head > ANSWER_MAX - 1 || c->n > head ? -1 : c->n == head;
}

static void load_count(struct load *l, uint64_t since_ns)
{
	uint64_t us = (load_now() - since_ns) / 1000, bucket = us / BUCKET_US;

	l->histogram[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
	if (us > l->max_us)
		l->max_us = us;
	l->done++;
}

static void load_read(struct load *l, struct connection *c)
{
	ssize_t n = recv(c->fd, c->in + c->n, ANSWER_MAX - 1 - c->n, MSG_DONTWAIT);
	int whole;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		load_error(l, "the connection ended", n ? strerror(errno) : "", 64);
		epoll_ctl(l->epoll, EPOLL_CTL_DEL, c->fd, NULL);
		if (c->busy)
			l->done++;
		c->busy = NULL;
		return;
	}
	c->n += (size_t)n;
	whole = c->busy ? load_whole(c) : -1;
	if (!whole)
		return;
	if (whole < 0) {
		load_error(l, "unexpected", c->in, (int)(c->n < 200 ? c->n : 200));
	} else {
		if (atoi(c->in + 9) != c->busy->status)
			load_error(l, c->busy->name, c->in, (int)(c->n < 200 ? c->n : 200));
		c->busy->done++;
	}
	load_count(l, c->due_ns);
	c->busy = NULL;
	l->idle[l->n_idle++] = (unsigned)(c - l->conns);
}

/* Begins what is due. Return: nanoseconds until the next is, -1 = when one comes back. */
static int64_t load_feed(struct load *l)
{
	uint64_t now = load_now();

	if (l->seconds && now - l->begin_ns >= l->seconds * 1000000000u)
		l->count = l->begun;
	while (l->n_idle && (!l->count || l->begun < l->count)) {
		uint64_t due = now;

		if (l->rate > 0)
			due = l->begin_ns + (uint64_t)((double)l->begun * 1e9 / l->rate);
		if (due > now)
			return (int64_t)(due - now);
		load_begin(l, due);
	}
	return -1;
}

static bool load_more(const struct load *l)
{
	return l->errors < 1000 && (!l->count || l->begun < l->count || l->done < l->begun);
}

static void load_run(struct load *l)
{
	struct epoll_event ev[256];

	l->begin_ns = load_now();
	while (load_more(l)) {
		int64_t ns = load_feed(l);
		struct timespec t = { ns < 0 ? STALL_S : ns / 1000000000,
				      ns < 0 ? 0 : ns % 1000000000 };
		int n = 0;

		if (load_more(l))
			n = epoll_pwait2(l->epoll, ev, 256, &t, NULL);
		if (n < 0 && errno != EINTR)
			load_die("epoll_pwait2");
		if (!n && ns < 0 && load_more(l)) {
			load_error(l, "stalled", "no answer came", 64);
			return;
		}
		for (int i = 0; i < n; i++)
			load_read(l, ev[i].data.ptr);
	}
}

static double load_quantile(const struct load *l, double q)
{
	uint64_t want = (uint64_t)((double)l->done * q), sum = 0;
	size_t i = 0;

	while (i < BUCKETS - 1 && (sum += l->histogram[i]) <= want)
		i++;
	return (double)((i + 1) * BUCKET_US) / 1000;
}

static void load_print(struct load *l)
{
	double s = (double)(load_now() - l->begin_ns) / 1e9;

	printf("{\"requests\":%llu,\"seconds\":%.3f,\"rate\":%.0f,\"errors\":%llu,",
	       (unsigned long long)l->done, s, (double)l->done / s, (unsigned long long)l->errors);
	printf("\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f", load_quantile(l, 0.5),
	       load_quantile(l, 0.99), (double)l->max_us / 1000);
	for (size_t i = 0; i < l->n_kinds; i++)
		printf(",\"%s\":%llu", l->kinds[i].name, (unsigned long long)l->kinds[i].done);
	printf("}\n");
	if (l->errors)
		fprintf(stderr, "http_load: %s\n", l->first_error);
}

static void load_open(struct load *l, uint16_t port)
{
	l->conns = calloc(l->n_conns, sizeof(*l->conns));
	l->idle = calloc(l->n_conns, sizeof(*l->idle));
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!l->conns || !l->idle || l->epoll < 0)
		load_die("start");
	for (unsigned i = 0; i < l->n_conns; i++) {
		struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &l->conns[i] };

		l->conns[i].fd = load_connect(port);
		l->idle[l->n_idle++] = i;
		if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->conns[i].fd, &ev) < 0)
			load_die("epoll_ctl");
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "port", 1, NULL, 'p' },
		{ "connections", 1, NULL, 'c' },
		{ "rate", 1, NULL, 'r' },
		{ "count", 1, NULL, 'n' },
		{ "seconds", 1, NULL, 's' },
		{ "request", 1, NULL, 'q' },
		{ NULL },
	};
	static struct load l = { .n_conns = 32 };
	uint16_t port = 0;
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (opt == 'p')
			port = (uint16_t)atoi(optarg);
		else if (opt == 'c')
			l.n_conns = (unsigned)atoi(optarg);
		else if (opt == 'r')
			l.rate = atof(optarg);
		else if (opt == 'n')
			l.count = strtoull(optarg, NULL, 10);
		else if (opt == 's')
			l.seconds = strtoull(optarg, NULL, 10);
		else if (opt == 'q')
			load_add_kind(&l, optarg);
		else
			return 2;
	}
	if (!port || !l.n_kinds || (!l.count && !l.seconds) || !l.n_conns ||
	    l.n_conns > CONNECTIONS_MAX) {
		fprintf(stderr, "http_load: see the head of tests/bench/http_load.c\n");
		return 2;
	}
	load_open(&l, port);
	load_run(&l);
	load_print(&l);
	return l.errors ? 1 : 0;
}
