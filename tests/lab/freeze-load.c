/* SPDX-License-Identifier: Apache-2.0 */
/*
 * freeze-load: a guest that never stands still, for the tests of snapshots
 *
 * As PID 1.  One thread on each CPU works on its own part of /dev/vda, without end: writes
 * records past the page cache and through it, syncs, reads older records back, keeps a
 * megabyte of memory changing, sleeps on a timer.  Everything that it reads it can tell
 * from the number of the round alone, so a write that was lost, done twice or mixed with
 * another is noticed, and so is a clock that goes back, on one CPU or between two.
 *
 * Each round of a CPU's thread is reported on hvc0 as
 *
 *   load: cpu=N round=N uptime_ms=N
 *
 * and what is wrong as "load: BAD …", after which that thread works no more.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#define LOAD_CPUS_MAX 16
#define LOAD_RECORD (64u << 10) /* bytes */
#define LOAD_RECORDS 32u /* of each thread, written in turn */
#define LOAD_MEMORY (1u << 20)

struct load {
	unsigned cpu;
	int direct, cached; /* /dev/vda without and with the page cache */
	uint64_t *record; /* LOAD_RECORD bytes, aligned */
	uint64_t *memory; /* LOAD_MEMORY bytes */
};

static int load_out;
static _Atomic uint64_t load_latest_ns; /* the latest time that any CPU has read */

static void load_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void load_say(const char *fmt, ...)
{
	char line[160];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	(void)!write(load_out, line, (size_t)n);
}

/* What belongs into word @i of a thread's record of a round. */
static uint64_t load_word(unsigned cpu, uint64_t round, uint64_t i)
{
	uint64_t x = (round << 20 ^ (uint64_t)cpu << 56 ^ i) * 0x9e3779b97f4a7c15ull;

	return x ^ x >> 29;
}

static int load_clock(const struct load *l, uint64_t *out)
{
	struct timespec t;
	uint64_t before = atomic_load(&load_latest_ns), now;

	clock_gettime(CLOCK_MONOTONIC, &t);
	now = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	if (now < before) {
		load_say("load: BAD cpu=%u clock went back by %llu ns\n", l->cpu,
			 (unsigned long long)(before - now));
		return -1;
	}
	while (before < now && !atomic_compare_exchange_weak(&load_latest_ns, &before, now))
		;
	*out = now;
	return 0;
}

static off_t load_offset(const struct load *l, uint64_t round)
{
	return (off_t)((l->cpu * LOAD_RECORDS + round % LOAD_RECORDS) * LOAD_RECORD);
}

static int load_write(const struct load *l, uint64_t round)
{
	int fd = round % 2 ? l->direct : l->cached;

	for (uint64_t i = 0; i < LOAD_RECORD / 8; i++)
		l->record[i] = load_word(l->cpu, round, i);
	if (pwrite(fd, l->record, LOAD_RECORD, load_offset(l, round)) != (ssize_t)LOAD_RECORD ||
	    fdatasync(fd)) {
		load_say("load: BAD cpu=%u round=%llu write: %m\n", l->cpu,
			 (unsigned long long)round);
		return -1;
	}
	return 0;
}

/* Reads what round @round wrote, always from the disk. */
static int load_check(const struct load *l, uint64_t round)
{
	/* A cached page would only tell about memory. */
	(void)posix_fadvise(l->cached, load_offset(l, round), LOAD_RECORD, POSIX_FADV_DONTNEED);
	if (pread(round % 2 ? l->cached : l->direct, l->record, LOAD_RECORD,
		  load_offset(l, round)) != (ssize_t)LOAD_RECORD) {
		load_say("load: BAD cpu=%u round=%llu read: %m\n", l->cpu,
			 (unsigned long long)round);
		return -1;
	}
	for (uint64_t i = 0; i < LOAD_RECORD / 8; i++) {
		if (l->record[i] == load_word(l->cpu, round, i))
			continue;
		load_say("load: BAD cpu=%u round=%llu record differs at word %llu\n", l->cpu,
			 (unsigned long long)round, (unsigned long long)i);
		return -1;
	}
	return 0;
}

/* A quarter of the memory is as the round before left it, and is changed for the next one. */
static int load_memory(const struct load *l, uint64_t round)
{
	uint64_t words = LOAD_MEMORY / 8 / 4, first = round % 4 * words;

	for (uint64_t i = first; i < first + words; i++) {
		if (round >= 4 && l->memory[i] != load_word(l->cpu, round - 4, i)) {
			load_say("load: BAD cpu=%u round=%llu memory differs at word %llu\n",
				 l->cpu, (unsigned long long)round, (unsigned long long)i);
			return -1;
		}
		l->memory[i] = load_word(l->cpu, round, i);
	}
	return 0;
}

static void *load_thread(void *arg)
{
	const struct timespec nap = { .tv_nsec = 1000000 };
	struct load *l = arg;
	cpu_set_t set;
	uint64_t now;

	CPU_ZERO(&set);
	CPU_SET(l->cpu, &set);
	if (pthread_setaffinity_np(pthread_self(), sizeof(set), &set)) {
		load_say("load: BAD cpu=%u is not there\n", l->cpu);
		return NULL;
	}
	for (uint64_t round = 0;; round++) {
		/* The oldest record that has not been overwritten yet, and the newest. */
		uint64_t oldest = round < LOAD_RECORDS ? 0 : round - LOAD_RECORDS + 1;

		if (load_write(l, round) || load_check(l, oldest) || load_check(l, round) ||
		    load_memory(l, round) || load_clock(l, &now))
			return NULL;
		nanosleep(&nap, NULL);
		load_say("load: cpu=%u round=%llu uptime_ms=%llu\n", l->cpu,
			 (unsigned long long)round, (unsigned long long)(now / 1000000));
	}
}

static int load_start(unsigned cpu)
{
	struct load *l = calloc(1, sizeof(*l));
	pthread_t thread;
	void *record;

	if (!l || posix_memalign(&record, 4096, LOAD_RECORD))
		return -1;
	l->cpu = cpu;
	l->record = record;
	l->memory = calloc(1, LOAD_MEMORY);
	l->direct = open("/dev/vda", O_RDWR | O_DIRECT | O_CLOEXEC);
	l->cached = open("/dev/vda", O_RDWR | O_CLOEXEC);
	if (!l->memory || l->direct < 0 || l->cached < 0)
		return -1;
	return pthread_create(&thread, NULL, load_thread, l);
}

int main(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	mount("none", "/dev", "devtmpfs", 0, NULL);
	load_out = open("/dev/hvc0", O_RDWR | O_CLOEXEC | O_NOCTTY);
	load_say("load: %ld CPUs\n", cpus);
	for (unsigned i = 0; i < (unsigned)cpus && i < LOAD_CPUS_MAX; i++)
		if (load_start(i))
			load_say("load: BAD cpu=%u cannot start: %m\n", i);
	for (;;)
		pause();
}
