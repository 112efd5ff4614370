/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest: drives the virtio devices by hand, malformed in every way
 *
 * DOC: Theory of operation
 *
 * Purpose
 *   A program that msb-vmm boots instead of a kernel. It goes through the devices that it
 *   finds and attacks each of their queues, one thing wrong at a time. After each attack
 *   it resets the device and has it do its work properly.
 *
 * Classes of hostile input
 *   1 place and size of the rings     2 buffers outside of RAM     3 indexes and chains
 *   4 length and direction            5 indirect tables            6 changed while read
 *   7 registers                       8 order of initialization    9 requests
 *   (10, hostile snapshots, is no guest's business: tests/lab/test_hostile.py)
 *
 * Report
 *   On the console, a line an attack: "ok|FAIL class=N DEVICE.INDEX queue=N: NAME", "hostile:
 *   N attacks, N failures" as the last. Then a reset by port 0x64.
 *   What is to be attacked is a word of the command line: "hostile=devices", or one of the
 *   ways to end a machine: "triple", "run-mmio", "run-hole", "ports", "halt".
 *
 * Limits
 *   One processor. The race of class 6 is between it and the VMM's threads.
 */
#include "hostile.h"

#define E820_ENTRIES 0x1e8
#define E820_TABLE 0x2d0
#define CMD_LINE_PTR 0x228
#define E820_RAM 1

struct e820_entry {
	uint64_t addr, size;
	uint32_t type;
} __attribute__((packed));

uint64_t ram_end;
static struct device devices[GUEST_DEVICES_MAX];
static struct device *console;
static unsigned attacks, failures;

static void say_bytes(const char *text, size_t n)
{
	memcpy((void *)(SCRATCH + SCRATCH_SIZE / 2), text, n);
	q_desc(console, 1, 0, SCRATCH + SCRATCH_SIZE / 2, (uint32_t)n, 0, 0);
	q_offer(console, 1, 0);
	q_kick(console, 1);
	/* A console that does not take a line is not to be trusted with another. */
	if (!q_wait(console, 1, NULL))
		guest_end();
}

/* %s and %u, a line at most. */
static void say(const char *fmt, ...)
{
	char line[200];
	size_t n = 0;
	va_list ap;

	va_start(ap, fmt);
	for (; *fmt && n < sizeof(line) - 12; fmt++) {
		if (*fmt != '%') {
			line[n++] = *fmt;
		} else if (*++fmt == 's') {
			for (const char *s = va_arg(ap, const char *); *s && n < sizeof(line) - 12; s++)
				line[n++] = *s;
		} else {
			unsigned v = va_arg(ap, unsigned), digits = 1;

			for (unsigned t = v; t > 9; t /= 10)
				digits++;
			for (unsigned i = digits; i; i--, v /= 10)
				line[n + i - 1] = (char)('0' + v % 10);
			n += digits;
		}
	}
	va_end(ap);
	line[n++] = '\n';
	say_bytes(line, n);
}

static bool word_is(const char *cmdline, const char *word)
{
	static const char key[] = "hostile=";

	for (; *cmdline; cmdline++) {
		const char *p = cmdline, *k = key;

		while (*k && *p == *k)
			p++, k++;
		if (*k)
			continue;
		for (k = word; *k && *p == *k; k++)
			p++;
		if (!*k && (!*p || *p == ' '))
			return true;
	}
	return false;
}

static void find_ram(const uint8_t *zero_page)
{
	const struct e820_entry *e = (const void *)(zero_page + E820_TABLE);

	for (unsigned i = 0; i < zero_page[E820_ENTRIES]; i++)
		if (e[i].type == E820_RAM && e[i].addr + e[i].size > ram_end)
			ram_end = e[i].addr + e[i].size;
}

/* Did the attack do what it had to? It has been kicked. */
static bool outcome_is(struct device *d, enum outcome outcome)
{
	uint64_t end = guest_ticks() + (outcome == BREAKS ? GUEST_PATIENCE : GUEST_SHORT_TIME);

	if (outcome == ANSWERS)
		return true;
	do {
		if (dev_needs_reset(d))
			return true;
		for (unsigned i = 0; i < 2000; i++)
			asm volatile("pause");
	} while (guest_ticks() < end);
	return outcome != BREAKS;
}

static void attack(struct device *d, unsigned q, const struct attack *a)
{
	const char *wrong = NULL;

	if (!dev_start(d, a->features))
		wrong = "does not start";
	else if (!a->run(d, q))
		wrong = "answered wrongly";
	else if (!outcome_is(d, a->outcome))
		wrong = "does not ask for a reset";
	if (!dev_reset(d))
		wrong = "does not reset";
	else if (!dev_start(d, 0))
		wrong = "does not start afterwards";
	else if (!device_works(d))
		wrong = "does not work afterwards";
	/* Whatever was done to the console itself, it reports from a clean start. */
	if (d == console && wrong)
		(void)dev_start(d, 0);
	attacks++;
	if (wrong)
		failures++;
	say("%s class=%u %s.%u queue=%u: %s%s%s", wrong ? "FAIL" : "ok", a->class, d->name, d->index, q,
	    a->name, wrong ? ": " : "", wrong ? wrong : "");
}

static const struct attack *own_attacks(const struct device *d)
{
	switch (d->id) {
	case ID_BLK:
		return blk_attacks;
	case ID_NET:
		return net_attacks;
	case ID_CONSOLE:
		return console_attacks;
	case ID_RNG:
		return rng_attacks;
	case ID_BALLOON:
		return balloon_attacks;
	}
	return NULL;
}

static void attack_device(struct device *d)
{
	unsigned queues;

	if (!dev_start(d, 0) || !device_works(d)) {
		attacks++;
		failures++;
		say("FAIL class=0 %s.%u queue=0: works to begin with", d->name, d->index);
		return;
	}
	/* Of the console's, those of port 0; control messages have attacks of their own. */
	queues = d->id == ID_CONSOLE ? 2 : d->n_queues;
	for (unsigned q = 0; q < queues; q++) {
		for (const struct attack *a = ring_attacks; a->name; a++)
			attack(d, q, a);
		for (const struct attack *a = register_attacks; a->name; a++)
			attack(d, q, a);
	}
	for (const struct attack *a = own_attacks(d); a && a->name; a++)
		attack(d, 0, a);
}

/* An address space of I/O ports in which there is only one. */
static void attack_ports(void)
{
	uint32_t wide = 0;
	unsigned wrong = 0;

	for (uint32_t port = 0; port < 0x10000; port += 61) {
		uint8_t got;

		if (port == 0x64 || (port >= 0x20 && port <= 0x21) || (port >= 0xa0 && port <= 0xa1) ||
		    port == 0x4d0 || port == 0x4d1)
			continue;
		asm volatile("outb %0, %1" : : "a"((uint8_t)0x5a), "d"((uint16_t)port));
		asm volatile("inb %1, %0" : "=a"(got) : "d"((uint16_t)port));
		wrong += got != 0xff;
	}
	/* Strings of them, in and out, and across the last port. */
	{
		uintptr_t at = SCRATCH;
		size_t n = 5000;

		asm volatile("rep insb" : "+D"(at), "+c"(n) : "d"((uint16_t)0x3f8) : "memory");
		at = SCRATCH;
		n = 5000;
		asm volatile("rep outsl" : "+S"(at), "+c"(n) : "d"((uint16_t)0x3f8) : "memory");
	}
	asm volatile("inl %1, %0" : "=a"(wide) : "d"((uint16_t)0xffff));
	/* Nothing but the reset line answers at 0x64; other values do nothing. */
	for (unsigned v = 0; v < 0xfe; v++)
		guest_out8(0x64, (uint8_t)v);
	/* And memory where no memory is. */
	wrong += *(volatile uint32_t *)0xe0000000ul != 0xffffffff;
	*(volatile uint64_t *)0xe0000000ul = 1;
	attacks++;
	failures += wrong != 0;
	say("%s class=7 ports.0 queue=0: ports and addresses that are not there: %u wrong, last %u",
	    wrong ? "FAIL" : "ok", wrong, wide == 0xffffffff);
}

static void jump(uintptr_t to)
{
	asm volatile("jmp *%0" : : "r"(to));
}

void hostile_main(const uint8_t *zero_page)
{
	const char *cmdline = (const char *)(uintptr_t) * (const uint32_t *)(zero_page + CMD_LINE_PTR);

	find_ram(zero_page);
	for (unsigned i = 0; i < GUEST_DEVICES_MAX; i++)
		if (dev_find(&devices[i], i) && devices[i].id == ID_CONSOLE)
			console = &devices[i];
	if (!console || !dev_start(console, 0))
		guest_end();
	say("hostile guest: %u MiB", (unsigned)(ram_end >> 20));

	if (word_is(cmdline, "triple"))
		asm volatile("ud2");
	if (word_is(cmdline, "run-mmio"))
		jump(GUEST_MMIO_BASE);
	if (word_is(cmdline, "run-hole"))
		jump(0xe0000000ul);
	if (word_is(cmdline, "halt"))
		return;
	if (word_is(cmdline, "ports"))
		attack_ports();
	if (word_is(cmdline, "devices"))
		for (unsigned i = 0; i < GUEST_DEVICES_MAX; i++)
			if (devices[i].id)
				attack_device(&devices[i]);
	say("hostile: %u attacks, %u failures", attacks, failures);
	guest_end();
}
