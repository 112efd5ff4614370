/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_peer: one end of a network bench, on the host as well as PID 1 of a guest
 *
 *	net_peer serve ADDRESS		answers on a port that it prints, until it is killed
 *	net_peer KIND ADDRESS PORT N	makes one measurement and prints what came out
 *	/init				in a guest: sets eth0 up, serves on port 7000, and does as the
 *					console says: one line is one set of arguments as above, or
 *					"mtu N"
 *
 * KIND: up and down (N bytes, prints MiB/s), rr (N exchanges of a byte on one connection, prints
 * the median in us), crr (N connections with an exchange each, prints how many a second).
 *
 * The first byte of a connection says what it is for: u, d followed by a count of 8 bytes, e.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define GUEST_PORT 7000
#define PIECE (1u << 20)
#define SAMPLES_MAX 100000u

static uint8_t piece[PIECE];

static void die(const char *what)
{
	printf("error %s: %s\n", what, strerror(errno));
	fflush(stdout);
	_exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void send_all(int fd, uint64_t n)
{
	while (n) {
		ssize_t sent = send(fd, piece, n < PIECE ? n : PIECE, MSG_NOSIGNAL);

		if (sent <= 0)
			die("send");
		n -= (uint64_t)sent;
	}
}

static uint64_t read_to_end(int fd)
{
	uint64_t got = 0;
	ssize_t n;

	while ((n = recv(fd, piece, PIECE, 0)) > 0)
		got += (uint64_t)n;
	if (n < 0)
		die("recv");
	return got;
}

static void one(int fd)
{
	if (send(fd, "x", 1, MSG_NOSIGNAL) != 1 || recv(fd, piece, 1, 0) != 1)
		die("exchange");
}

/* ---- the side that waits ---- */

static void serve_one(int fd)
{
	static const int on = 1;
	uint64_t n;
	char kind;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (recv(fd, &kind, 1, 0) != 1)
		return;
	if (kind == 'u') {
		read_to_end(fd);
		send(fd, "k", 1, MSG_NOSIGNAL);
	} else if (kind == 'd') {
		if (recv(fd, &n, sizeof(n), MSG_WAITALL) == sizeof(n))
			send_all(fd, n);
	} else {
		while (recv(fd, &kind, 1, 0) == 1 && send(fd, &kind, 1, MSG_NOSIGNAL) == 1)
			;
	}
}

/* Connections are served one after the other: a fork would cost more than they do. */
static void serve(int listener)
{
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			die("accept");
		serve_one(fd);
		close(fd);
	}
}

static int listen_on(const char *address, uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	static const int on = 1;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (inet_pton(AF_INET, address, &a.sin_addr) != 1 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 128) < 0)
		die("listen");
	return fd;
}

/* ---- the side that measures ---- */

static int open_connection(const struct sockaddr_in *to)
{
	static const int on = 1;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0)
		die("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

static double rate(uint64_t bytes, uint64_t ns)
{
	return (double)bytes / 1048576 / ((double)ns / 1e9);
}

static double measure_up(const struct sockaddr_in *to, uint64_t n)
{
	int fd = open_connection(to);
	uint64_t start = now_ns();

	if (send(fd, "u", 1, MSG_NOSIGNAL) != 1)
		die("send");
	send_all(fd, n);
	shutdown(fd, SHUT_WR);
	if (recv(fd, piece, 1, 0) != 1)
		die("answer");
	close(fd);
	return rate(n, now_ns() - start);
}

static double measure_down(const struct sockaddr_in *to, uint64_t n)
{
	int fd = open_connection(to);
	uint64_t start = now_ns();

	if (send(fd, "d", 1, MSG_NOSIGNAL) != 1 || send(fd, &n, sizeof(n), MSG_NOSIGNAL) != sizeof(n))
		die("send");
	if (read_to_end(fd) != n)
		die("too little");
	close(fd);
	return rate(n, now_ns() - start);
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static double measure_rr(const struct sockaddr_in *to, uint64_t n)
{
	static uint32_t ns[SAMPLES_MAX];
	int fd = open_connection(to);

	if (n > SAMPLES_MAX || send(fd, "e", 1, MSG_NOSIGNAL) != 1)
		die("send");
	one(fd);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t start = now_ns();

		one(fd);
		ns[i] = (uint32_t)(now_ns() - start);
	}
	close(fd);
	qsort(ns, n, sizeof(ns[0]), compare);
	return (double)ns[n / 2] / 1000;
}

static double measure_crr(const struct sockaddr_in *to, uint64_t n)
{
	uint64_t start = now_ns();

	for (uint64_t i = 0; i < n; i++) {
		int fd = open_connection(to);

		if (send(fd, "e", 1, MSG_NOSIGNAL) != 1)
			die("send");
		one(fd);
		close(fd);
	}
	return (double)n / ((double)(now_ns() - start) / 1e9);
}

static void measure(const char *kind, const char *address, const char *port, const char *count)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
	uint64_t n = strtoull(count, NULL, 10);
	double got;

	if (inet_pton(AF_INET, address, &to.sin_addr) != 1)
		die("address");
	if (!strcmp(kind, "up"))
		got = measure_up(&to, n);
	else if (!strcmp(kind, "down"))
		got = measure_down(&to, n);
	else if (!strcmp(kind, "rr"))
		got = measure_rr(&to, n);
	else
		got = measure_crr(&to, n);
	printf("result %.3f\n", got);
	fflush(stdout);
}

/* ---- PID 1 of a guest ---- */

static void set_addr(int fd, unsigned long request, struct ifreq *r, const char *address)
{
	struct sockaddr_in *a = (struct sockaddr_in *)&r->ifr_addr;

	*a = (struct sockaddr_in){ .sin_family = AF_INET };
	inet_pton(AF_INET, address, &a->sin_addr);
	if (ioctl(fd, request, r) < 0)
		die(address);
}

static void set_mtu(int fd, int mtu)
{
	struct ifreq r = { .ifr_name = "eth0", .ifr_mtu = mtu };

	if (ioctl(fd, SIOCSIFMTU, &r) < 0)
		die("mtu");
}

static void set_up(int fd, const char *name)
{
	struct ifreq r = { .ifr_flags = IFF_UP | IFF_RUNNING };

	strcpy(r.ifr_name, name);
	if (ioctl(fd, SIOCSIFFLAGS, &r) < 0)
		die(name);
}

static void set_network(int fd)
{
	struct ifreq r = { .ifr_name = "eth0" };
	struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY };
	struct sockaddr_in *via = (struct sockaddr_in *)&route.rt_gateway;

	set_addr(fd, SIOCSIFADDR, &r, "10.0.2.15");
	set_addr(fd, SIOCSIFNETMASK, &r, "255.255.255.0");
	set_up(fd, "lo");
	set_up(fd, "eth0");
	via->sin_family = route.rt_dst.sa_family = route.rt_genmask.sa_family = AF_INET;
	inet_pton(AF_INET, "10.0.2.2", &via->sin_addr);
	if (ioctl(fd, SIOCADDRT, &route) < 0)
		die("route");
}

static void init_console(void)
{
	struct termios t;
	int fd = open("/dev/hvc0", O_RDWR);

	for (int i = 0; i < 3; i++)
		dup2(fd, i);
	if (!tcgetattr(0, &t)) {
		cfmakeraw(&t);
		tcsetattr(0, TCSANOW, &t);
	}
}

static void init_run(void)
{
	char line[200], word[4][50];
	int fd;

	mount("dev", "/dev", "devtmpfs", 0, NULL);
	init_console();
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	set_network(fd);
	if (!fork())
		serve(listen_on("0.0.0.0", GUEST_PORT));
	printf("ready\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		int n = sscanf(line, "%49s %49s %49s %49s", word[0], word[1], word[2], word[3]);

		if (n == 2 && !strcmp(word[0], "mtu"))
			set_mtu(fd, atoi(word[1]));
		else if (n == 4 && !fork()) {
			measure(word[0], word[1], word[2], word[3]);
			_exit(0);
		}
	}
	die("console");
}

int main(int argc, char **argv)
{
	struct sockaddr_in a;
	socklen_t len = sizeof(a);

	signal(SIGPIPE, SIG_IGN);
	if (getpid() == 1)
		init_run();
	if (argc == 3 && !strcmp(argv[1], "serve")) {
		int fd = listen_on(argv[2], 0);

		getsockname(fd, (struct sockaddr *)&a, &len);
		printf("port %u\n", ntohs(a.sin_port));
		fflush(stdout);
		serve(fd);
	}
	if (argc != 5)
		return 2;
	measure(argv[1], argv[2], argv[3], argv[4]);
	return 0;
}
