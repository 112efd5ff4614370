/* SPDX-License-Identifier: Apache-2.0 */
/* DNS messages: questions of a guest, answers of a resolver, and resolv.conf. */
#include "unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/dns_wire.h"
#include "codec/resolvconf.h"

struct message {
	uint8_t b[4096];
	size_t len;
};

static void put(struct message *m, const void *p, size_t n)
{
	assert_true(m->len + n <= sizeof(m->b));
	memcpy(m->b + m->len, p, n);
	m->len += n;
}

static void put16(struct message *m, unsigned v)
{
	uint8_t b[2] = { (uint8_t)(v >> 8), (uint8_t)v };

	put(m, b, 2);
}

/* "www.example.org"; a "@N" at the end is a pointer to offset N. */
static void put_name(struct message *m, const char *name)
{
	while (*name && *name != '@') {
		size_t n = strcspn(name, ".@");
		uint8_t c = (uint8_t)n;

		put(m, &c, 1);
		put(m, name, n);
		name += n + (name[n] == '.');
	}
	if (*name == '@')
		put16(m, 0xc000u | (unsigned)atoi(name + 1));
	else
		put(m, "", 1);
}

static struct message header(uint16_t id, unsigned flags, unsigned answers)
{
	struct message m = { .len = 0 };

	put16(&m, id);
	put16(&m, flags);
	put16(&m, 1);
	put16(&m, answers);
	put16(&m, 0);
	put16(&m, 0);
	return m;
}

static void question(struct message *m, const char *name, unsigned type)
{
	put_name(m, name);
	put16(m, type);
	put16(m, 1);
}

static void record(struct message *m, const char *owner, unsigned type, const void *data, size_t n)
{
	put_name(m, owner);
	put16(m, type);
	put16(m, 1);
	put16(m, 0);
	put16(m, 60);
	put16(m, (unsigned)n);
	put(m, data, n);
}

static void alias(struct message *m, const char *owner, const char *target)
{
	size_t at;

	put_name(m, owner);
	put16(m, DNS_CNAME);
	put16(m, 1);
	put16(m, 0);
	put16(m, 60);
	at = m->len;
	put16(m, 0);
	put_name(m, target);
	dns_put16(m->b + at, (unsigned)(m->len - at - 2));
}

static struct dns_query ask(const char *name, unsigned type)
{
	struct message m = header(0x1234, 0x0100, 0);
	struct dns_query q;

	question(&m, name, type);
	assert_int_equal(dns_query_parse(m.b, m.len, &q), 0);
	return q;
}

/* A filter that strips 10/8, refuses bad.example, and notes what it saw. */
static char seen[512];

static bool keep_address(void *ctx, const struct netaddr *a, uint32_t ttl)
{
	char text[NETADDR_TEXT];

	(void)ctx;
	snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%s/%u ",
		 netaddr_format(a, text), ttl);
	return netaddr_kind(a) != NETADDR_PRIVATE;
}

static bool keep_alias(void *ctx, const char *name)
{
	(void)ctx;
	snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%s ", name);
	return strcmp(name, "bad.example") != 0;
}

static struct dns_filter filter = { .address = keep_address, .alias = keep_alias };
static uint8_t room[DNS_MESSAGE_MAX];
static struct dns_answer out = { .bytes = room };

static int answer(const struct message *m, const struct dns_query *q)
{
	seen[0] = '\0';
	return dns_answer_read(m->b, m->len, q, 0x4321, &filter, &out);
}

static const uint8_t public1[4] = { 192, 0, 2, 1 }, public2[4] = { 192, 0, 2, 2 };
static const uint8_t private1[4] = { 10, 0, 0, 1 };

static void test_questions(void **state)
{
	struct message m = header(0x1234, 0x0130, 0);
	uint8_t again[DNS_QUERY_MAX];
	struct dns_query q, r;
	size_t n;

	(void)state;
	question(&m, "WWW.Example.Org", DNS_A);
	m.b[11] = 1;
	put(&m, "\0\0\x29\x10\0\0\0\x80\0\0\0", 11); /* OPT: 4096 bytes, DO */
	assert_int_equal(dns_query_parse(m.b, m.len, &q), 0);
	assert_string_equal(q.name, "www.example.org");
	assert_memory_equal(q.wire, "\3WWW\7Example\3Org", 17);
	assert_int_equal(q.id, 0x1234);
	assert_int_equal(q.type, DNS_A);
	assert_true(q.rd && q.ad && q.cd && q.edns && q.dnssec_ok);
	assert_int_equal(q.udp_size, 4096);
	/* What we send says the same, under our own id. */
	n = dns_query_build(&q, 0x9999, again);
	assert_int_equal(dns_query_parse(again, n, &r), 0);
	assert_int_equal(r.id, 0x9999);
	r.id = q.id;
	assert_memory_equal(&q, &r, sizeof(q));
	q = ask("", DNS_NS);
	assert_string_equal(q.name, "");
	assert_false(q.edns);
	assert_int_equal(q.udp_size, DNS_UDP_MIN);
}

static void test_not_questions(void **state)
{
	struct message good = header(1, 0x0100, 0), m;
	struct dns_query q;

	(void)state;
	question(&good, "a.example", DNS_A);
	for (size_t n = 0; n < good.len; n++) {
		uint8_t *exact = malloc(n ? n : 1);

		memcpy(exact, good.b, n);
		assert_int_equal(dns_query_parse(exact, n, &q), n < 12 ? -EBADMSG : -EINVAL);
		free(exact);
	}
	m = good;
	m.b[2] |= 0x80; /* an answer */
	assert_int_equal(dns_query_parse(m.b, m.len, &q), -EBADMSG);
	m = good;
	m.b[2] |= 0x28; /* an update */
	assert_int_equal(dns_query_parse(m.b, m.len, &q), -EOPNOTSUPP);
	m = good;
	m.b[5] = 2; /* two questions */
	assert_int_equal(dns_query_parse(m.b, m.len, &q), -EINVAL);
	m = good;
	m.b[7] = 1; /* an answer in a question */
	assert_int_equal(dns_query_parse(m.b, m.len, &q), -EINVAL);
	m = good;
	m.b[14] = '\n'; /* a byte that a log must not see */
	assert_int_equal(dns_query_parse(m.b, m.len, &q), -EINVAL);
	assert_string_equal(q.name, "");
	m = good;
	m.b[14] = '.'; /* "a.example" with other labels */
	m.b[13] = 'x';
	assert_int_equal(dns_query_parse(m.b, m.len, &q), -EINVAL);
	m = header(1, 0x0100, 0);
	question(&m, "@12", DNS_A); /* a pointer to itself */
	assert_int_equal(dns_query_parse(m.b, m.len, &q), -EINVAL);
	m = header(1, 0x0100, 0);
	question(&m, "@13", DNS_A);
	assert_int_equal(dns_query_parse(m.b, m.len, &q), -EINVAL);
	m = header(1, 0x0100, 0);
	question(&m, "a.example", DNS_ANY);
	assert_int_equal(dns_query_parse(m.b, m.len, &q), -EOPNOTSUPP);
	m = header(1, 0x0100, 0);
	question(&m, "a.example", 252); /* AXFR */
	assert_int_equal(dns_query_parse(m.b, m.len, &q), -EOPNOTSUPP);
	m = good;
	m.b[m.len - 1] = 3; /* class CHAOS */
	assert_int_equal(dns_query_parse(m.b, m.len, &q), -EOPNOTSUPP);
}

static void test_names_at_their_limits(void **state)
{
	char label[64], name[300];
	struct message m;
	struct dns_query q;

	(void)state;
	memset(label, 'a', 63);
	label[63] = '\0';
	/* 3 x 64 + 62 + 1 = 255 bytes: the longest. */
	snprintf(name, sizeof(name), "%s.%s.%s.%.61s", label, label, label, label);
	m = header(1, 0x0100, 0);
	question(&m, name, DNS_A);
	assert_int_equal(dns_query_parse(m.b, m.len, &q), 0);
	assert_int_equal(strlen(q.name), DNS_NAME_MAX);
	assert_true(dns_query_build(&q, 1, room) <= DNS_QUERY_MAX);
	snprintf(name, sizeof(name), "%s.%s.%s.%.62s", label, label, label, label);
	m = header(1, 0x0100, 0);
	question(&m, name, DNS_A);
	assert_int_equal(dns_query_parse(m.b, m.len, &q), -EINVAL);
}

static void test_answer(void **state)
{
	struct dns_query q = ask("www.Example.org", DNS_A), echo;
	struct message m = header(0x4321, 0x8180, 3);

	(void)state;
	question(&m, "www.example.org", DNS_A);
	alias(&m, "@12", "cdn.example.net");
	record(&m, "cdn.example.net", DNS_A, public1, 4);
	record(&m, "CDN.example.net", DNS_A, public2, 4);
	assert_int_equal(answer(&m, &q), 0);
	assert_string_equal(seen, "cdn.example.net 192.0.2.1/60 192.0.2.2/60 ");
	assert_int_equal(out.kept, 2);
	/* The guest's id, its own spelling, and three records. */
	assert_int_equal(dns_get16(room), 0x1234);
	assert_memory_equal(room + 12, q.wire, q.wire_len);
	assert_int_equal(dns_get16(room + 6), 3);
	assert_memory_equal(room + out.len - 4, public2, 4);
	/* What we made is an answer that we would take. */
	memcpy(m.b, room, out.len);
	m.len = out.len;
	dns_put16(m.b, 0x4321);
	assert_int_equal(answer(&m, &q), 0);
	assert_int_equal(out.kept, 2);
	assert_int_equal(out.len, m.len);
	assert_int_equal(dns_query_parse(room, out.len, &echo), -EBADMSG);
}

static void test_stripped(void **state)
{
	struct dns_query q = ask("a.example", DNS_A);
	struct message m = header(0x4321, 0x8180, 2);

	(void)state;
	question(&m, "a.example", DNS_A);
	record(&m, "@12", DNS_A, private1, 4);
	record(&m, "@12", DNS_A, public1, 4);
	assert_int_equal(answer(&m, &q), 0);
	assert_int_equal(out.kept, 1);
	assert_int_equal(out.stripped, 1);
	assert_int_equal(dns_get16(room + 6), 1);
	assert_memory_equal(room + out.len - 4, public1, 4);
	assert_int_equal(room[3] & 15, DNS_NOERROR);
	/* Nothing but such: there is no such name. */
	m = header(0x4321, 0x8180, 1);
	question(&m, "a.example", DNS_A);
	record(&m, "@12", DNS_A, private1, 4);
	assert_int_equal(answer(&m, &q), 0);
	assert_int_equal(dns_get16(room + 6), 0);
	assert_int_equal(room[3] & 15, DNS_NXDOMAIN);
}

static void test_strangers(void **state)
{
	struct dns_query q = ask("a.example", DNS_A);
	struct message m = header(0x4321, 0x8180, 3);

	(void)state;
	/* An address of another name is neither passed on nor noted. */
	question(&m, "a.example", DNS_A);
	record(&m, "b.example", DNS_A, public1, 4);
	alias(&m, "c.example", "d.example");
	record(&m, "@12", DNS_A, public2, 4);
	assert_int_equal(answer(&m, &q), 0);
	assert_string_equal(seen, "192.0.2.2/60 ");
	assert_int_equal(dns_get16(room + 6), 1);
	/* Aliases in any order, and a loop of them. */
	m = header(0x4321, 0x8180, 4);
	question(&m, "a.example", DNS_A);
	record(&m, "c.example", DNS_A, public1, 4);
	alias(&m, "b.example", "c.example");
	alias(&m, "a.example", "b.example");
	alias(&m, "c.example", "a.example");
	assert_int_equal(answer(&m, &q), 0);
	assert_string_equal(seen, "b.example c.example 192.0.2.1/60 ");
	/* Behind a name that is denied. */
	m = header(0x4321, 0x8180, 2);
	question(&m, "a.example", DNS_A);
	alias(&m, "a.example", "bad.example");
	record(&m, "bad.example", DNS_A, public1, 4);
	assert_int_equal(answer(&m, &q), 0);
	assert_true(out.refused);
	assert_string_equal(seen, "bad.example ");
	assert_int_equal(dns_get16(room + 6), 0);
	assert_int_equal(room[3] & 15, DNS_NXDOMAIN);
}

static void test_ipv6_and_hints(void **state)
{
	static const uint8_t v6[16] = { 0x20, 1, 0x0d, 0xb8, [15] = 1 };
	static const uint8_t mapped[16] = { [10] = 0xff, 0xff, 192, 0, 2, 1 };
	struct dns_query q = ask("a.example", DNS_AAAA), h = ask("a.example", DNS_HTTPS);
	struct message m = header(0x4321, 0x8180, 2);

	(void)state;
	question(&m, "a.example", DNS_AAAA);
	record(&m, "@12", DNS_AAAA, v6, 16);
	record(&m, "@12", DNS_AAAA, mapped, 16);
	assert_int_equal(answer(&m, &q), 0);
	assert_string_equal(seen, "2001:db8::1/60 ");
	assert_int_equal(dns_get16(room + 6), 1);
	filter.no_ipv6 = true;
	assert_int_equal(answer(&m, &q), 0);
	assert_int_equal(dns_get16(room + 6), 0);
	assert_int_equal(room[3] & 15, DNS_NOERROR);
	filter.no_ipv6 = false;
	m = header(0x4321, 0x8180, 1);
	question(&m, "a.example", DNS_HTTPS);
	record(&m, "@12", DNS_HTTPS, "\0\1\0", 3);
	assert_int_equal(answer(&m, &h), 0);
	assert_int_equal(dns_get16(room + 6), 1);
	filter.no_hints = true;
	assert_int_equal(answer(&m, &h), 0);
	assert_int_equal(dns_get16(room + 6), 0);
	filter.no_hints = false;
}

/* Names inside data are written out, since they point into the old message. */
static void test_names_in_data(void **state)
{
	struct dns_query q = ask("example.org", DNS_MX);
	struct message m = header(0x4321, 0x8180, 1);
	struct dns_record rec;
	struct dns_name name;
	char text[DNS_NAME_MAX + 1];
	size_t at;

	(void)state;
	question(&m, "example.org", DNS_MX);
	record(&m, "@12", DNS_MX, "\0\012\4mail\xc0\x0c", 9);
	assert_int_equal(answer(&m, &q), 0);
	at = 12 + q.wire_len + 4;
	assert_true(dns_record_read(room, out.len, &at, &rec));
	assert_int_equal(at, out.len);
	at = rec.data + 2;
	assert_true(dns_name_read(room, out.len, &at, &name));
	assert_true(dns_name_text(&name, text));
	assert_string_equal(text, "mail.example.org");
}

static void test_other_answers(void **state)
{
	struct dns_query q = ask("a.example", DNS_A);
	struct message good = header(0x4321, 0x8183, 0), m;

	(void)state;
	question(&good, "A.example", DNS_A);
	assert_int_equal(answer(&good, &q), 0);
	assert_int_equal(out.rcode, DNS_NXDOMAIN);
	assert_int_equal(room[3] & 15, DNS_NXDOMAIN);
	m = good;
	m.b[0] ^= 1; /* id */
	assert_int_equal(answer(&m, &q), -ESRCH);
	m = good;
	m.b[2] ^= 0x80; /* a question */
	assert_int_equal(answer(&m, &q), -ESRCH);
	m = good;
	m.b[13] = 'b'; /* another name */
	assert_int_equal(answer(&m, &q), -ESRCH);
	m = good;
	m.b[m.len - 3] = DNS_AAAA;
	assert_int_equal(answer(&m, &q), -ESRCH);
	m = good;
	m.b[7] = 1; /* a record that is not there */
	assert_int_equal(answer(&m, &q), -EBADMSG);
	m = good;
	m.b[6] = 2; /* too many */
	assert_int_equal(answer(&m, &q), -EBADMSG);
	m = header(0x4321, 0x8180, 1);
	question(&m, "a.example", DNS_A);
	record(&m, "@12", DNS_A, "abc", 3);
	assert_int_equal(answer(&m, &q), -EBADMSG);
}

static void test_errors(void **state)
{
	struct dns_query q = ask("a.example", DNS_A);
	uint8_t e[DNS_QUERY_MAX];
	size_t n;

	(void)state;
	n = dns_error_build(&q, DNS_REFUSED, false, true, e);
	assert_int_equal(n, 12 + q.wire_len + 4);
	assert_memory_equal(e, "\x12\x34\x81\x85\0\1\0\0\0\0\0\0", 12);
	q.edns = true;
	n = dns_error_build(&q, DNS_NXDOMAIN, false, true, e);
	assert_int_equal(n, 12 + q.wire_len + 4 + 11 + 6);
	assert_memory_equal(e + n - 6, "\0\17\0\2\0\17", 6);
	n = dns_error_build(&q, DNS_NOERROR, true, false, e);
	assert_int_equal(e[2] & 2, 2);
	assert_int_equal(n, 12 + q.wire_len + 4 + 11);
}

static void test_resolv_conf(void **state)
{
	static const char text[] =
		"# nameserver 1.1.1.1\nsearch a b\nnameserver\t192.0.2.1 # home\r\n"
		"nameserver fe80::1%eth0\nnameserverx 9.9.9.9\nnameserver bad\n"
		"nameserver fe80::1%\n nameserver 8.8.8.8\nnameserver ::1\n"
		"nameserver 192.0.2.4";
	struct resolvconf r;
	char a[NETADDR_TEXT];

	(void)state;
	resolvconf_parse(text, strlen(text), &r);
	assert_int_equal(r.n, 3);
	assert_string_equal(netaddr_format(&r.servers[0].addr, a), "192.0.2.1");
	assert_string_equal(r.servers[0].zone, "");
	assert_string_equal(netaddr_format(&r.servers[1].addr, a), "fe80::1");
	assert_string_equal(r.servers[1].zone, "eth0");
	assert_string_equal(netaddr_format(&r.servers[2].addr, a), "::1");
	resolvconf_parse("", 0, &r);
	assert_int_equal(r.n, 1);
	assert_string_equal(netaddr_format(&r.servers[0].addr, a), "127.0.0.1");
	resolvconf_parse("nameserver 192.0.2.4", 20, &r);
	assert_string_equal(netaddr_format(&r.servers[0].addr, a), "192.0.2.4");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_questions),
		TEST(test_not_questions),
		TEST(test_names_at_their_limits),
		TEST(test_answer),
		TEST(test_stripped),
		TEST(test_strangers),
		TEST(test_ipv6_and_hints),
		TEST(test_names_in_data),
		TEST(test_other_answers),
		TEST(test_errors),
		TEST(test_resolv_conf),
	};

	return test_run(tests);
}
