/* SPDX-License-Identifier: Apache-2.0 */
/* Rules and policies as text, and what they match; kinds of addresses. */
#include "unit/test.h"

#include <errno.h>
#include <stdio.h>

#include "codec/netrule.h"

static int parse(const char *s, struct netrule *r, struct err *e)
{
	return netrule_parse(s, strlen(s), r, e);
}

/* Text as typed, and its canonical form, which says the same once more. */
static void test_rules(void **state)
{
	static const char *const rows[][2] = {
		{ "allow any", "allow any" },
		{ "deny any any", "deny any" },
		{ "  ALLOW\tout  TCP  Example.ORG.:443 ", "allow tcp example.org:443" },
		{ "allow in any 192.0.2.0/24:80", "allow in 192.0.2.0/24:80" },
		{ "deny tcp in host:22", "deny in tcp host:22" },
		{ "deny tcp 10.0.0.0/8:22", "deny tcp 10.0.0.0/8:22" },
		{ "allow *.example.org:443,8000-8999", "allow *.example.org:443,8000-8999" },
		{ "allow *.local", "allow *.local" },
		{ "allow *.local.", "allow *.local" },
		{ "allow db.", "allow db." },
		{ "allow _dmarc.a-b.example", "allow _dmarc.a-b.example" },
		{ "allow 192.0.2.1/32:53", "allow 192.0.2.1:53" },
		{ "allow 0.0.0.0/0", "allow 0.0.0.0/0" },
		{ "deny ::/0", "deny ::/0" },
		{ "allow 2001:DB8::1", "allow 2001:db8::1" },
		{ "allow 2001:db8::/32", "allow 2001:db8::/32" },
		{ "allow udp [2001:db8::/32]:53", "allow udp [2001:db8::/32]:53" },
		{ "allow [2001:db8::1]", "allow 2001:db8::1" },
		{ "deny icmp link-local", "deny icmp link-local" },
		{ "allow metadata:80", "allow metadata:80" },
		{ "allow 169.254.169.254:80", "allow 169.254.169.254:80" },
		{ "allow any:1-65535", "allow any:1-65535" },
		{ "deny 127.0.0.1", "deny 127.0.0.1" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[NETRULE_TEXT_MAX], again[NETRULE_TEXT_MAX];
		struct err e = ERR_INIT;
		struct netrule r;

		if (parse(rows[i][0], &r, &e))
			fail_msg("'%s': %s", rows[i][0], err_text(&e));
		assert_string_equal(netrule_format(&r, text), rows[i][1]);
		assert_int_equal(parse(text, &r, &e), 0);
		assert_string_equal(netrule_format(&r, again), text);
	}
}

/* What is no rule, and a word of the reason. */
static void test_not_rules(void **state)
{
	static const char *const rows[][2] = {
		{ "", "starts with allow or deny" },
		{ "permit any", "starts with allow or deny" },
		{ "allow", "no target" },
		{ "allow sctp any", "is not in, out, tcp" },
		{ "allow tcp udp any", "is not in, out, tcp" },
		{ "allow out in any", "is not in, out, tcp" },
		{ "allow privat", "is no group" },
		{ "allow privat:80", "is no group" },
		{ "allow 10.0.0.300", "is no address, name or group" },
		{ "allow 10.0.0", "is no address, name or group" },
		{ "allow 10.0.0.1/8", "write 10.0.0.0/8" },
		{ "allow 2001:db8::1/32", "write 2001:db8::/32" },
		{ "allow 10.0.0.0/33", "must be 0 to 32" },
		{ "allow 10.0.0.0/", "must be 0 to 32" },
		{ "allow 10.0.0.0/+8", "must be 0 to 32" },
		{ "allow 2001:db8::/129", "must be 0 to 128" },
		{ "allow ::ffff:10.0.0.1", "is no address" },
		{ "allow example.org/8", "is no address" },
		{ "allow example.org:", "are no ports" },
		{ "allow example.org:0", "are no ports" },
		{ "allow example.org:65536", "are no ports" },
		{ "allow example.org:http", "are no ports" },
		{ "allow example.org:9-8", "are no ports" },
		{ "allow example.org:80,", "are no ports" },
		{ "allow any:1,2,3,4,5,6,7,8,9", "more than 8 ranges" },
		{ "allow icmp any:80", "icmp has no ports" },
		{ "allow [2001:db8::1", "']' is missing" },
		{ "allow [2001:db8::1]80", "behind ']'" },
		{ "allow [example.org]:80", "brackets are for IPv6" },
		{ "allow []:80", "brackets are for IPv6" },
		{ "allow *.", "is no address, name or group" },
		{ "allow *", "is no address, name or group" },
		{ "allow a..example", "is no address, name or group" },
		{ "allow -a.example", "is no address, name or group" },
		{ "allow a*.example", "is no address, name or group" },
		{ "allow b\xc3\xbc"
		  "cher.example",
		  "xn--" },
		{ "allow in example.org", "nothing vouches for a name" },
		{ "allow 127.0.0.1", "the group loopback" },
		{ "allow ::1", "the group loopback" },
		{ "allow 0.0.0.0", "can never be reached" },
		{ "allow 224.0.0.251", "can never be reached" },
		{ "allow 2002:a9fe:a9fe::1", "can never be reached" },
	};
	char big[NETRULE_TEXT_MAX + 1];
	struct netrule r;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err e = ERR_INIT;

		if (parse(rows[i][0], &r, &e) != -EINVAL)
			fail_msg("'%s' was taken for a rule", rows[i][0]);
		if (!strstr(err_text(&e), rows[i][1]))
			fail_msg("'%s': %s", rows[i][0], err_text(&e));
	}
	memset(big, 'a', sizeof(big));
	memcpy(big, "allow ", 6);
	assert_int_equal(netrule_parse(big, sizeof(big), &r, NULL), -EINVAL);
	assert_int_equal(netrule_parse(big, 300, &r, NULL), -EINVAL);
	assert_int_equal(netrule_parse("allow a\0.example", 16, &r, NULL), -EINVAL);
	assert_int_equal(netrule_parse("allow 10.0.0.1\0", 15, &r, NULL), -EINVAL);
}

static void test_names(void **state)
{
	struct netrule exact, suffix;

	(void)state;
	assert_int_equal(parse("allow example.org", &exact, NULL), 0);
	assert_int_equal(parse("allow *.example.org", &suffix, NULL), 0);
	assert_true(netrule_matches_name(&exact, "example.org"));
	assert_false(netrule_matches_name(&exact, "www.example.org"));
	assert_false(netrule_matches_name(&exact, "example.org.evil"));
	assert_true(netrule_matches_name(&suffix, "www.example.org"));
	assert_true(netrule_matches_name(&suffix, "a.b.example.org"));
	assert_false(netrule_matches_name(&suffix, "example.org"));
	assert_false(netrule_matches_name(&suffix, ".example.org"));
	assert_false(netrule_matches_name(&suffix, "evilexample.org"));
	assert_false(netrule_matches_name(&suffix, "org"));
}

static void test_ports(void **state)
{
	struct netrule r;

	(void)state;
	assert_int_equal(parse("allow tcp any:80,8000-8999", &r, NULL), 0);
	assert_true(netrule_matches_port(&r, NETRULE_TCP, 80));
	assert_true(netrule_matches_port(&r, NETRULE_TCP, 8000));
	assert_true(netrule_matches_port(&r, NETRULE_TCP, 8999));
	assert_false(netrule_matches_port(&r, NETRULE_TCP, 81));
	assert_false(netrule_matches_port(&r, NETRULE_TCP, 9000));
	assert_false(netrule_matches_port(&r, NETRULE_UDP, 80));
	assert_int_equal(parse("allow any:80", &r, NULL), 0);
	assert_true(netrule_matches_port(&r, NETRULE_UDP, 80));
	assert_false(netrule_matches_port(&r, NETRULE_ICMP, 0));
	assert_int_equal(parse("allow icmp any", &r, NULL), 0);
	assert_true(netrule_matches_port(&r, NETRULE_ICMP, 0));
	assert_false(netrule_matches_port(&r, NETRULE_TCP, 80));
}

static struct netaddr addr(const char *s)
{
	struct netaddr a;

	if (netaddr_parse(s, &a))
		fail_msg("%s is no address", s);
	return a;
}

static bool covers(const char *rule, const char *a)
{
	struct netaddr n = addr(a);
	struct netrule r;

	assert_int_equal(parse(rule, &r, NULL), 0);
	return netrule_matches_addr(&r, &n);
}

static void test_addresses(void **state)
{
	(void)state;
	assert_true(covers("allow 192.0.2.128/25", "192.0.2.200"));
	assert_false(covers("allow 192.0.2.128/25", "192.0.2.127"));
	assert_true(covers("allow 192.0.2.1", "192.0.2.1"));
	assert_false(covers("allow 192.0.2.1", "192.0.2.0"));
	assert_true(covers("allow 0.0.0.0/0", "255.0.0.1"));
	/* Neither family is a part of the other. */
	assert_false(covers("allow 0.0.0.0/0", "2001:db8::1"));
	assert_false(covers("allow ::/0", "192.0.2.1"));
	assert_true(covers("allow ::/0", "fd00::1"));
	assert_true(covers("allow 2001:db8::/33", "2001:db8:7fff::"));
	assert_false(covers("allow 2001:db8::/33", "2001:db8:8000::"));
}

static void test_kinds(void **state)
{
	static const struct {
		const char *addr;
		enum netaddr_kind kind;
	} rows[] = {
		{ "9.9.9.9", NETADDR_PUBLIC },
		{ "169.254.169.254", NETADDR_METADATA },
		{ "169.254.169.253", NETADDR_LINK_LOCAL },
		{ "2606:4700::1", NETADDR_PUBLIC },
		{ "2001:db8::1", NETADDR_PUBLIC },
		{ "fd00:ec2::254", NETADDR_METADATA },
		{ "fd00:ec2::23", NETADDR_METADATA },
		{ "fd20:ce::254", NETADDR_METADATA },
		{ "fd00:c1::a9fe:a9fe", NETADDR_METADATA },
		{ "fd00:ec2::253", NETADDR_PRIVATE },
		{ "fc00::1", NETADDR_PRIVATE },
		{ "fdff::1", NETADDR_PRIVATE },
		{ "fec0::1", NETADDR_PRIVATE },
		{ "fe80::1", NETADDR_LINK_LOCAL },
		{ "febf::1", NETADDR_LINK_LOCAL },
		{ "::", NETADDR_NOWHERE },
		{ "::1", NETADDR_LOOPBACK },
		{ "::2", NETADDR_NOWHERE },
		{ "::127.0.0.1", NETADDR_NOWHERE }, /* IPv4-compatible */
		{ "64:ff9b::808:808", NETADDR_PUBLIC }, /* NAT64 of 8.8.8.8 */
		{ "64:ff9b::a9fe:a9fe", NETADDR_METADATA },
		{ "64:ff9b::a83f:8110", NETADDR_METADATA },
		{ "64:ff9b::7f00:1", NETADDR_NOWHERE },
		{ "64:ff9b::a00:1", NETADDR_NOWHERE },
		{ "64:ff9b:1::a00:1", NETADDR_NOWHERE },
		{ "2002:7f00:1::1", NETADDR_NOWHERE }, /* 6to4 */
		{ "2001:0:7f00:1::", NETADDR_NOWHERE }, /* Teredo */
		{ "2001:2::1", NETADDR_SPECIAL },
		{ "2001:200::1", NETADDR_PUBLIC },
		{ "100::1", NETADDR_SPECIAL },
		{ "3fff::1", NETADDR_SPECIAL },
		{ "3ffe::1", NETADDR_PUBLIC },
		{ "4000::1", NETADDR_SPECIAL },
		{ "ff02::1", NETADDR_CAST },
	};
	struct netaddr mapped = { { [10] = 0xff, 0xff, 169, 254, 169, 254 } };
	char text[NETADDR_TEXT];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct netaddr a = addr(rows[i].addr);

		if (netaddr_kind(&a) != rows[i].kind)
			fail_msg("%s is of kind %d", rows[i].addr, (int)netaddr_kind(&a));
		assert_string_equal(netaddr_format(&a, text), rows[i].addr);
	}
	assert_int_equal(netaddr_kind(&mapped), NETADDR_METADATA);
	assert_string_equal(netaddr_format(&mapped, text), "169.254.169.254");
}

static void test_policy(void **state)
{
	static const char text[] = "allow tcp example.org:443\r\n\n  default out deny ; deny any\n"
				   "default in allow\nlimit in-bytes 10M;limit connects 250";
	static const char want[] = "default out deny\ndefault in allow\n"
				   "limit in-bytes 10000000\nlimit connects 250\nallow tcp "
				   "example.org:443\ndeny any\n";
	struct buf b = BUF_INIT, again = BUF_INIT;
	struct netpolicy p, q;

	(void)state;
	assert_int_equal(netpolicy_parse(text, strlen(text), &p, NULL), 0);
	assert_int_equal(p.n_rules, 2);
	assert_int_equal(netpolicy_format(&p, &b), 0);
	assert_int_equal(buf_len(&b), strlen(want));
	assert_memory_equal(buf_data(&b), want, strlen(want));
	assert_int_equal(netpolicy_parse((const char *)buf_data(&b), buf_len(&b), &q, NULL), 0);
	assert_int_equal(netpolicy_format(&q, &again), 0);
	assert_int_equal(buf_len(&again), buf_len(&b));
	assert_true(netpolicy_has_names(&p));
	assert_true(netpolicy_opens(&p, NETRULE_OUT));
	assert_false(netpolicy_opens(&p, NETRULE_IN));
	buf_fini(&b);
	buf_fini(&again);
}

static void test_not_policies(void **state)
{
	static const char *const rows[][2] = {
		{ "default", "starts with allow or deny" },
		{ "default maybe", "allow or deny" },
		{ "default out", "allow or deny" },
		{ "default up deny", "allow or deny" },
		{ "default out deny now", "allow or deny" },
		{ "default deny\ndefault out allow", "line 2: the default" },
		{ "allow any\nallow nothing", "line 2: " },
		{ "limit bytes 5", "a limit is out-bytes" },
		{ "limit connects", "a limit is out-bytes" },
		{ "limit connects 0", "give a number from 1" },
		{ "limit connects -1", "give a number from 1" },
		{ "limit connects 5KB", "give a number from 1" },
		{ "limit connects 1.5M", "give a number from 1" },
		{ "limit connects 1000000000001", "give a number from 1" },
		{ "limit connects 99999999999999999999", "give a number from 1" },
		{ "limit connects 1001G", "give a number from 1" },
		{ "limit connects 5\nlimit connects 5", "given twice" },
	};
	static char many[(NETPOLICY_RULES_MAX + 1) * 10 + 1];
	struct err e = ERR_INIT;
	struct netpolicy p;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		err_clear(&e);
		assert_true(netpolicy_parse(rows[i][0], strlen(rows[i][0]), &p, &e) < 0);
		if (!strstr(err_text(&e), rows[i][1]))
			fail_msg("'%s': %s", rows[i][0], err_text(&e));
	}
	for (unsigned i = 0; i <= NETPOLICY_RULES_MAX; i++)
		strcat(many, "allow any\n");
	assert_int_equal(netpolicy_parse(many, strlen(many), &p, NULL), -E2BIG);
	assert_int_equal(netpolicy_parse(many, strlen(many) - 10, &p, NULL), 0);
	assert_int_equal(netpolicy_parse(many, NETPOLICY_TEXT_MAX + 1, &p, NULL), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_rules),  TEST(test_not_rules),    TEST(test_names),
		TEST(test_ports),  TEST(test_addresses),    TEST(test_kinds),
		TEST(test_policy), TEST(test_not_policies),
	};

	return test_run(tests);
}
