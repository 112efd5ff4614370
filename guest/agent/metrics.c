/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   METRICS: what the machine uses, read from the kernel's own /proc and the upper's file
 *   system by a helper, because a guest with thousands of processes makes that long.
 *
 * Failure
 *   A file that is missing or says something else leaves its fields 0.  Nothing here is
 *   worth an error but that no helper could be started.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <time.h>

#include "agent/files.h"
#include "agent/helper.h"
#include "base/mem.h"

#define METRICS_FILE_MAX (64u * 1024) /* what is read of a file of /proc */
#define METRICS_TICK_NS 10000000u /* USER_HZ is 100 on every machine that we run on */
#define METRICS_PF_KTHREAD 0x00200000u /* of /proc/PID/stat's flags */

struct metrics {
	struct channel ch;
	struct agent *agent;
	struct proc proc;
	struct deferred finish;
	int result_fd;
	bool reaped;
	struct err err;
	struct frame_metrics_reply reply;
};

/* Reads the beginning of a file. Return: NUL-terminated text in @text, "" if there is none. */
static const char *metrics_text(int proc_fd, const char *name, char *text, size_t size)
{
	auto_close int fd = openat(proc_fd, name, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n;

	while (fd >= 0 && len < size - 1 && (n = read(fd, text + len, size - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	return text;
}

/* The text after @name where a line begins with it, or NULL. */
static const char *metrics_line(const char *text, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = text; p; p = strchr(p, '\n')) {
		p += *p == '\n';
		while (*p == ' ')
			p++;
		if (!strncmp(p, name, n))
			return p + n;
	}
	return NULL;
}

static void metrics_cpu(const char *text, struct frame_metrics_reply *m)
{
	uint64_t t[7] = { 0 };
	const char *p = metrics_line(text, "cpu ");

	/* user nice system idle iowait irq softirq */
	if (p && sscanf(p,
			"%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
			" %" SCNu64,
			&t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6]) == 7) {
		m->cpu_user_ns = (t[0] + t[1]) * METRICS_TICK_NS;
		m->cpu_system_ns = (t[2] + t[5] + t[6]) * METRICS_TICK_NS;
		m->cpu_idle_ns = (t[3] + t[4]) * METRICS_TICK_NS;
	}
	for (p = text; (p = strstr(p, "\ncpu")); p++)
		m->cpus++;
}

static uint64_t metrics_kib(const char *text, const char *name)
{
	const char *p = metrics_line(text, name);

	return p ? strtoull(p, NULL, 10) * 1024 : 0;
}

static void metrics_net(const char *text, struct frame_metrics_reply *m)
{
	const char *p = metrics_line(text, "eth0:");

	/* bytes packets errs drop fifo frame compressed multicast, then the same sent */
	if (p)
		sscanf(p, "%" SCNu64 " %*u %*u %*u %*u %*u %*u %*u %" SCNu64, &m->net_rx_bytes,
		       &m->net_tx_bytes);
}

/* Is this line of /proc/PID/stat of a running process that has a program? */
static bool metrics_is_user(const char *text)
{
	const char *p = strrchr(text, ')'); /* the name before it may hold anything */
	unsigned flags;
	char state;

	/* state ppid pgrp session tty tpgid flags */
	if (!p || sscanf(p + 1, " %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2)
		return false;
	return state != 'Z' && state != 'X' && !(flags & METRICS_PF_KTHREAD);
}

static uint32_t metrics_processes(int proc_fd, pid_t pump)
{
	int fd = openat(proc_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	char name[300], text[1024];
	struct dirent *d;
	uint32_t n = 0;

	while (dir && (d = readdir(dir))) {
		long pid = strtol(d->d_name, NULL, 10);

		/* The agent, this helper of its, and the pump of the volumes. */
		if (pid <= 1 || pid == getpid() || pid == getppid() || pid == pump)
			continue;
		snprintf(name, sizeof(name), "%s/stat", d->d_name);
		n += metrics_is_user(metrics_text(fd, name, text, sizeof(text)));
	}
	if (dir)
		closedir(dir);
	return n;
}

/* In the helper. @disk_fd: -1 = the root directory */
static void metrics_collect(int proc_fd, int disk_fd, pid_t pump, struct frame_metrics_reply *m)
{
	auto_free char *text = malloc(METRICS_FILE_MAX);
	struct timespec now;
	struct statfs fs;

	clock_gettime(CLOCK_BOOTTIME, &now);
	m->uptime_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	if (text) {
		metrics_cpu(metrics_text(proc_fd, "stat", text, METRICS_FILE_MAX), m);
		metrics_text(proc_fd, "meminfo", text, METRICS_FILE_MAX);
		m->mem_total = metrics_kib(text, "MemTotal:");
		m->mem_available = metrics_kib(text, "MemAvailable:");
		metrics_text(proc_fd, "loadavg", text, METRICS_FILE_MAX);
		m->load1_milli = (uint32_t)(strtod(text, NULL) * 1000 + 0.5);
		metrics_net(metrics_text(proc_fd, "self/net/dev", text, METRICS_FILE_MAX), m);
	}
	m->processes = metrics_processes(proc_fd, pump);
	if (!(disk_fd >= 0 ? fstatfs(disk_fd, &fs) : statfs("/", &fs))) {
		m->disk_total = (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize;
		m->disk_available = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
		m->disk_files_total = fs.f_files;
		m->disk_files_free = fs.f_ffree;
	}
}

static void metrics_finish(struct deferred *d)
{
	struct metrics *x = container_of(d, struct metrics, finish);

	if (!x->reaped)
		return;
	if (x->err.code)
		channel_fail(&x->ch, &x->err);
	else
		channel_finish(&x->ch, FRAME_METRICS_REPLY, &x->reply);
	proc_release(x->agent, &x->proc);
	close_fd(&x->result_fd);
	free(x);
}

static void metrics_exited(struct proc *p, int status, const struct rusage *ru)
{
	struct metrics *x = container_of(p, struct metrics, proc);

	(void)ru;
	x->reaped = true;
	if (helper_result(x->result_fd, status, &x->reply, sizeof(x->reply), &x->err))
		err_wrap(&x->err, "metrics");
	agent_defer(x->agent, &x->finish);
}

static int metrics_frame(struct channel *c, const struct frame *f)
{
	(void)c;
	(void)f;
	return -EPROTO; /* there are no streams */
}

static void metrics_close(struct channel *c)
{
	struct metrics *x = container_of(c, struct metrics, ch);

	proc_signal(&x->proc, SIGKILL, false);
}

static const struct channel_ops metrics_ops = {
	.frame = metrics_frame,
	.close = metrics_close,
	.lost = metrics_close,
};

void metrics_open(struct link *l, const struct frame *f)
{
	struct metrics *x = calloc(1, sizeof(*x));
	struct agent *a = l->agent;
	struct err e = ERR_INIT;
	int proc_fd = a->proc_fd, disk_fd = a->disk_fd;
	int *keep[] = { &proc_fd, &disk_fd };
	pid_t pid;

	if (!x) {
		err_errno(&e, ENOMEM, "metrics");
		link_send_error(l, f->channel, &e);
		return;
	}
	x->agent = a;
	x->result_fd = -1;
	x->finish.fn = metrics_finish;
	list_init(&x->finish.link);
	proc_init(&x->proc, metrics_exited);
	pid = helper_fork(a, &x->proc, keep, ARRAY_SIZE(keep), &x->result_fd, &e);
	if (!pid) {
		metrics_collect(proc_fd, disk_fd, a->pump_pid, &x->reply);
		helper_exit(x->result_fd, &x->reply, sizeof(x->reply));
	}
	if (pid < 0) {
		link_send_error(l, f->channel, &e);
		free(x);
		return;
	}
	link_open(l, &x->ch, f->channel, &metrics_ops);
}
