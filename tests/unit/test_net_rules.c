/* SPDX-License-Identifier: Apache-2.0 */
/* What rules, defaults and pins say of a destination, a name, an answer and a client. */
#include "unit/test.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/policy.h"

/* Static: both are large. */
static struct net_policy p;
static struct pins pins;

static struct netaddr addr(const char *s)
{
	struct netaddr a;

	if (netaddr_parse(s, &a))
		fail_msg("%s is no address", s);
	return a;
}

static void use(enum net_scope scope, const char *rules)
{
	struct err e = ERR_INIT;

	p = (struct net_policy){ .scope = scope, .pins = &pins };
	pins.n = 0;
	pins.now_ms = 1000000;
	if (netpolicy_parse(rules, strlen(rules), &p.rules, &e))
		fail_msg("%s", err_text(&e));
}

static enum net_reason reach(uint8_t proto, const char *to, uint16_t port, unsigned *rule)
{
	struct net_flow f = { .proto = proto, .dst = addr(to), .dport = port };
	enum net_reason why = net_policy_destination(&p, &f);

	*rule = f.rule;
	return why;
}

#define expect(proto, to, port, want, want_rule) \
	do { \
		unsigned rule_; \
		enum net_reason why_ = reach(proto, to, port, &rule_); \
		if (why_ != (want) || rule_ != (want_rule)) \
			fail_msg("line %d: %s:%u: %s, rule %u", __LINE__, to, port, \
				 net_reason_name(why_), rule_); \
	} while (0)

#define OPEN NET_REASON_NONE
#define RULE NET_REASON_RULE
#define TCP IPPROTO_TCP
#define UDP IPPROTO_UDP

static void test_first_match(void **state)
{
	(void)state;
	use(NET_SCOPE_PUBLIC, "deny tcp 192.0.2.0/24:22; allow 192.0.2.0/24; deny 192.0.2.9;"
			      "allow udp 10.0.0.0/8:123; deny in any");
	expect(TCP, "192.0.2.1", 22, RULE, 1);
	expect(UDP, "192.0.2.1", 22, OPEN, 2);
	expect(TCP, "192.0.2.9", 80, OPEN, 2); /* the third comes too late */
	expect(UDP, "10.1.2.3", 123, OPEN, 4);
	expect(TCP, "10.1.2.3", 123, NET_REASON_PRIVATE, 0);
	expect(TCP, "9.9.9.9", 80, OPEN, 0);
	expect(IPPROTO_ICMP, "10.1.2.3", 0, NET_REASON_PRIVATE, 0);
}

static void test_defaults(void **state)
{
	(void)state;
	use(NET_SCOPE_PUBLIC, "default deny; allow tcp 192.0.2.1:443");
	expect(TCP, "192.0.2.1", 443, OPEN, 1);
	expect(TCP, "192.0.2.1", 80, NET_REASON_DEFAULT, 0);
	expect(TCP, "9.9.9.9", 443, NET_REASON_DEFAULT, 0);
	use(NET_SCOPE_PUBLIC, "default allow");
	expect(TCP, "10.0.0.1", 443, OPEN, 0);
	expect(TCP, "10.0.2.4", 443, OPEN, 0);
	expect(TCP, "169.254.169.254", 80, NET_REASON_METADATA, 0);
	expect(TCP, "127.0.0.1", 80, NET_REASON_LOOPBACK, 0);
	/* Nothing but what the rules say. */
	use(NET_SCOPE_NONE, "allow tcp 192.0.2.1:443");
	expect(TCP, "192.0.2.1", 443, OPEN, 1);
	expect(TCP, "192.0.2.1", 80, NET_REASON_SCOPE, 0);
	expect(UDP, "10.0.2.2", 53, OPEN, 0);
	/* Nothing at all; a question for a name is answered with that. */
	use(NET_SCOPE_NONE, "deny 192.0.2.1");
	expect(UDP, "10.0.2.2", 53, OPEN, 0);
	expect(UDP, "10.0.2.2", 54, NET_REASON_SCOPE, 0);
}

static void test_group(void **state)
{
	static const struct net_members members = { .names = { "me", "web", "db" } };
	const struct netaddr web = addr("10.0.2.129"), out = addr("10.0.2.4");
	unsigned rule;

	(void)state;
	use(NET_SCOPE_GROUP, "");
	p.members = &members;
	expect(TCP, "10.0.2.129", 80, OPEN, 0);
	expect(TCP, "10.0.2.131", 80, NET_REASON_ABSENT, 0);
	expect(TCP, "9.9.9.9", 80, NET_REASON_SCOPE, 0);
	expect(TCP, "10.0.3.1", 80, NET_REASON_SCOPE, 0);
	assert_int_equal(net_policy_name(&p, "example.org", &rule), NET_REASON_SCOPE);
	assert_false(net_policy_answer(&p, &web));

	/* By name, as a whole, and never as something private. */
	use(NET_SCOPE_GROUP, "deny private; allow tcp db.:5432; deny group; allow 9.9.9.9");
	p.members = &members;
	expect(TCP, "10.0.2.130", 5432, OPEN, 2);
	expect(TCP, "10.0.2.130", 22, RULE, 3);
	expect(TCP, "10.0.2.129", 5432, RULE, 3);
	expect(TCP, "9.9.9.9", 80, OPEN, 4);
	/* A member may be a DNS server, whatever names the rules have. */
	use(NET_SCOPE_GROUP, "allow example.org");
	p.members = &members;
	expect(UDP, "10.0.2.130", 53, OPEN, 0);
	expect(UDP, "9.9.9.9", 53, NET_REASON_RESOLVER, 0);

	use(NET_SCOPE_GROUP, "allow in tcp web.:80; deny in group; default in deny");
	p.members = &members;
	assert_int_equal(net_policy_ingress(&p, &web, TCP, 80, &rule), OPEN);
	assert_int_equal(rule, 1);
	assert_int_equal(net_policy_ingress(&p, &web, TCP, 81, &rule), RULE);
	assert_int_equal(rule, 2);
	assert_int_equal(net_policy_ingress(&p, &out, TCP, 80, &rule), NET_REASON_DEFAULT);
}

static void test_opens_outside(void **state)
{
	static const struct {
		const char *rules;
		bool opens;
	} rows[] = {
		{ "", false },
		{ "deny any; allow group; allow in any; limit connects 5", false },
		{ "allow tcp db.:80", true }, /* it may be a name of somebody else's */
		{ "allow any", true },
		{ "allow 10.0.0.0/8", true },
		{ "default allow", true },
		{ "default in allow", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		use(NET_SCOPE_NONE, rows[i].rules);
		assert_int_equal(netpolicy_opens_outside(&p.rules), rows[i].opens);
	}
}

static void test_metadata(void **state)
{
	static const char *const never[] = {
		"default allow",
		"allow any",
		"allow 0.0.0.0/0",
		"allow 169.254.0.0/16",
		"allow 169.254.169.254/31",
		"allow link-local",
		"allow public",
		"allow private",
		"allow host",
		"allow loopback",
		"allow meta.example",
		"allow 100.64.0.0/10",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
		for (int s = NET_SCOPE_NONE; s <= NET_SCOPE_ANY; s++) {
			static const char *const where[] = { "169.254.169.254", "100.100.100.200",
							     "168.63.129.16", "64:ff9b::a9fe:a9fe",
							     "fd00:ec2::254" };

			use((enum net_scope)s, never[i]);
			for (size_t k = 0; k < 5; k++) {
				unsigned rule;
				struct netaddr a = addr(where[k]);

				pins_add(&pins, &a, "meta.example", 60);
				if (reach(TCP, where[k], 80, &rule) == OPEN)
					fail_msg("'%s' opens %s", never[i], where[k]);
			}
		}
	use(NET_SCOPE_PUBLIC, "allow tcp 169.254.169.254:80");
	expect(TCP, "169.254.169.254", 80, OPEN, 1);
	expect(TCP, "169.254.169.254", 81, NET_REASON_METADATA, 0);
	expect(TCP, "169.254.170.2", 80, NET_REASON_METADATA, 0);
	use(NET_SCOPE_PUBLIC, "allow metadata:80");
	expect(TCP, "168.63.129.16", 80, OPEN, 1);
	use(NET_SCOPE_ANY, "deny any; allow metadata");
	expect(TCP, "169.254.169.254", 80, RULE, 1);
}

static void test_host(void **state)
{
	static const char *const by_chance[] = {
		"allow 10.0.0.0/8", "allow 0.0.0.0/0",      "allow private",
		"allow public",     "allow 192.168.1.0/24", "allow 198.51.100.0/24",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(by_chance) / sizeof(by_chance[0]); i++) {
		unsigned rule;

		use(NET_SCOPE_PUBLIC, by_chance[i]);
		p.host_addrs[0] = addr("192.168.1.10");
		p.host_addrs[1] = addr("198.51.100.1");
		p.n_host_addrs = 2;
		if (reach(TCP, "10.0.2.4", 80, &rule) == OPEN ||
		    reach(TCP, "192.168.1.10", 80, &rule) == OPEN ||
		    reach(TCP, "198.51.100.1", 80, &rule) == OPEN ||
		    reach(TCP, "64:ff9b::c633:6401", 80, &rule) == OPEN)
			fail_msg("'%s' opens the host", by_chance[i]);
	}
	use(NET_SCOPE_PUBLIC, "allow tcp host:5000; allow loopback:6000; allow 192.168.1.10:7000");
	p.host_addrs[0] = addr("192.168.1.10");
	p.n_host_addrs = 1;
	expect(TCP, "10.0.2.4", 5000, OPEN, 1);
	expect(TCP, "192.168.1.10", 5000, OPEN, 1);
	expect(TCP, "10.0.2.4", 6000, OPEN, 2);
	expect(TCP, "192.168.1.10", 6000, NET_REASON_PRIVATE, 0);
	expect(TCP, "192.168.1.10", 7000, OPEN, 3);
	expect(TCP, "10.0.2.4", 7000, NET_REASON_HOST, 0);
	use(NET_SCOPE_ANY, "deny host");
	p.host_addrs[0] = addr("192.168.1.10");
	p.n_host_addrs = 1;
	expect(TCP, "10.0.2.4", 80, RULE, 1);
	expect(TCP, "192.168.1.10", 80, RULE, 1);
	expect(TCP, "192.168.1.11", 80, OPEN, 0);
	use(NET_SCOPE_NONE, "allow any");
	expect(UDP, "10.0.2.4", 69, NET_REASON_GATEWAY, 0);
	expect(TCP, "10.0.2.2", 80, NET_REASON_GATEWAY, 0);
	expect(TCP, "10.0.2.9", 80, NET_REASON_GATEWAY, 0);
}

/* The mistake to avoid: a rule with a name that opens every address. */
static void test_names_open_what_is_pinned(void **state)
{
	struct netaddr a = addr("192.0.2.1"), private = addr("10.1.2.3"), other = addr("192.0.2.2");

	(void)state;
	use(NET_SCOPE_PUBLIC, "default deny; allow tcp example.org:443; allow *.example.net");
	expect(TCP, "192.0.2.1", 443, NET_REASON_DEFAULT, 0);
	pins_add(&pins, &a, "example.org", 60);
	pins_add(&pins, &other, "a.example.net", 60);
	expect(TCP, "192.0.2.1", 443, OPEN, 1);
	expect(TCP, "192.0.2.1", 80, NET_REASON_DEFAULT, 0);
	expect(TCP, "192.0.2.3", 443, NET_REASON_DEFAULT, 0);
	expect(UDP, "192.0.2.2", 9, OPEN, 2);
	pins.now_ms += 60000;
	expect(TCP, "192.0.2.1", 443, NET_REASON_DEFAULT, 0);
	/* Whoever answers for example.org may not open the private network. */
	pins_add(&pins, &private, "example.org", 60);
	expect(TCP, "10.1.2.3", 443, NET_REASON_DEFAULT, 0);
	pins_add(&pins, &a, "example.org", 60);
	p.host_addrs[0] = a;
	p.n_host_addrs = 1;
	expect(TCP, "192.0.2.1", 443, NET_REASON_DEFAULT, 0);
	/* A name that is denied is denied wherever it leads. */
	use(NET_SCOPE_ANY, "deny *.example.org:25");
	pins_add(&pins, &private, "mail.example.org", 60);
	expect(TCP, "10.1.2.3", 25, RULE, 1);
	expect(TCP, "10.1.2.3", 26, OPEN, 0);
}

static void test_other_resolvers(void **state)
{
	(void)state;
	use(NET_SCOPE_ANY, "allow any; deny evil.example");
	expect(UDP, "9.9.9.9", 53, NET_REASON_RESOLVER, 0);
	expect(TCP, "9.9.9.9", 53, NET_REASON_RESOLVER, 0);
	expect(TCP, "9.9.9.9", 853, NET_REASON_RESOLVER, 0);
	expect(UDP, "10.1.1.1", 853, NET_REASON_RESOLVER, 0);
	expect(UDP, "10.0.2.4", 53, NET_REASON_RESOLVER, 0);
	expect(UDP, "10.0.2.2", 53, OPEN, 0);
	expect(UDP, "9.9.9.9", 54, OPEN, 1);
	use(NET_SCOPE_ANY, "allow any");
	expect(UDP, "9.9.9.9", 53, OPEN, 1);
}

static void name(const char *n, enum net_reason want, unsigned want_rule)
{
	unsigned rule;
	enum net_reason why = net_policy_name(&p, n, &rule);

	if (why != want || rule != want_rule)
		fail_msg("%s: %s, rule %u", n, net_reason_name(why), rule);
}

static void test_names(void **state)
{
	(void)state;
	use(NET_SCOPE_PUBLIC, "");
	name("example.org", OPEN, 0);
	use(NET_SCOPE_PUBLIC, "default deny; allow example.org:443; allow 10.0.0.0/8");
	name("example.org", OPEN, 2 - 1);
	name("www.example.org", NET_REASON_DEFAULT, 0);
	use(NET_SCOPE_NONE, "allow *.example.org");
	name("www.example.org", OPEN, 1);
	name("example.org", NET_REASON_SCOPE, 0);
	use(NET_SCOPE_PUBLIC, "deny tcp a.example:25; deny b.example; deny any; allow c.example");
	name("a.example", RULE, 3); /* a port that is denied leaves the others; the rest is shut */
	name("b.example", RULE, 2);
	name("c.example", RULE, 3);
	use(NET_SCOPE_PUBLIC, "default deny; allow public:443");
	name("a.example", OPEN, 1);
	use(NET_SCOPE_PUBLIC, "deny udp any; deny any:25");
	name("a.example", OPEN, 0);
	use(NET_SCOPE_PUBLIC, "default allow; deny in any");
	name("a.example", OPEN, 0);
}

static void answers(const char *a, bool want)
{
	struct netaddr n = addr(a);

	if (net_policy_answer(&p, &n) != want)
		fail_msg("%s is %s", a, want ? "held back" : "passed on");
}

static void test_answers(void **state)
{
	(void)state;
	use(NET_SCOPE_PUBLIC, "default deny; allow example.org");
	answers("192.0.2.1", true);
	answers("10.1.2.3", false);
	answers("127.0.0.1", false);
	answers("0.0.0.0", false);
	answers("169.254.169.254", false);
	answers("10.0.2.4", false);
	answers("::1", false);
	answers("fe80::1", false);
	answers("64:ff9b::a00:1", false);
	p.host_addrs[0] = addr("192.0.2.1");
	p.n_host_addrs = 1;
	answers("192.0.2.1", false);
	use(NET_SCOPE_PUBLIC, "deny tcp 10.0.0.0/8:22; allow tcp 10.0.0.0/8");
	answers("10.1.2.3", true);
	answers("192.168.1.1", false);
	use(NET_SCOPE_PUBLIC, "deny 10.0.0.0/8; allow 10.0.0.0/8");
	answers("10.1.2.3", false);
	use(NET_SCOPE_ANY, "");
	answers("10.1.2.3", true);
	answers("fd12::1", true);
	answers("127.0.0.1", false);
	answers("10.0.2.4", false);
	answers("169.254.169.254", false);
	use(NET_SCOPE_PUBLIC, "allow metadata:80");
	answers("169.254.169.254", true);
}

/* IPv6 under every scope; RFC 6052, 3056, 4380 and the like hide nothing. */
static void test_ipv6(void **state)
{
	static const struct {
		const char *to;
		enum net_reason public, any;
	} rows[] = {
		{ "2001:db8::1", OPEN, OPEN },
		{ "64:ff9b::808:808", OPEN, OPEN },
		{ "fd12::1", NET_REASON_PRIVATE, OPEN },
		{ "fec0::1", NET_REASON_PRIVATE, OPEN },
		{ "2001:2::1", NET_REASON_SPECIAL, OPEN },
		{ "fd00:ec2::254", NET_REASON_METADATA, NET_REASON_METADATA },
		{ "64:ff9b::a9fe:a9fe", NET_REASON_METADATA, NET_REASON_METADATA },
		{ "64:ff9b::a00:1", NET_REASON_SPECIAL, NET_REASON_SPECIAL },
		{ "2002:808:808::1", NET_REASON_SPECIAL, NET_REASON_SPECIAL },
		{ "2001:0:808:808::", NET_REASON_SPECIAL, NET_REASON_SPECIAL },
		{ "fe80::1", NET_REASON_LINK_LOCAL, NET_REASON_LINK_LOCAL },
		{ "::1", NET_REASON_LOOPBACK, NET_REASON_LOOPBACK },
		{ "::", NET_REASON_SPECIAL, NET_REASON_SPECIAL },
		{ "ff02::1", NET_REASON_SPECIAL, NET_REASON_SPECIAL },
		{ "fd6d:7362:6e74::2", NET_REASON_GATEWAY, NET_REASON_GATEWAY },
		{ "fd6d:7362:6e74::9", NET_REASON_GATEWAY, NET_REASON_GATEWAY },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		use(NET_SCOPE_PUBLIC, "");
		expect(TCP, rows[i].to, 80, rows[i].public, 0);
		use(NET_SCOPE_ANY, "");
		expect(TCP, rows[i].to, 80, rows[i].any, 0);
	}
	/* Rules for IPv4 hold behind a translator; the host's addresses are the host's. */
	use(NET_SCOPE_ANY, "deny 8.8.8.0/24; allow ::/0; deny any");
	expect(TCP, "64:ff9b::808:808", 80, RULE, 1);
	expect(TCP, "2001:db8::1", 80, OPEN, 2);
	expect(TCP, "9.9.9.9", 80, RULE, 3);
	p.host_addrs[0] = addr("2001:db8::1");
	p.n_host_addrs = 1;
	expect(TCP, "2001:db8::1", 80, RULE, 3);
	use(NET_SCOPE_PUBLIC, "");
	p.host_addrs[0] = addr("2001:db8::1");
	p.n_host_addrs = 1;
	expect(TCP, "2001:db8::1", 80, NET_REASON_HOST, 0);
	expect(TCP, "2001:db8::2", 80, OPEN, 0);
	use(NET_SCOPE_ANY, "");
	expect(IPPROTO_ICMPV6, "fd6d:7362:6e74::2", 0, OPEN, 0);
	expect(IPPROTO_ICMPV6, "2001:db8::1", 0, NET_REASON_PROTOCOL, 0);
}

static void client(const char *peer, uint16_t port, enum net_reason want, unsigned want_rule)
{
	struct netaddr a = addr(peer);
	unsigned rule;
	enum net_reason why = net_policy_ingress(&p, &a, IPPROTO_TCP, port, &rule);

	if (why != want || rule != want_rule)
		fail_msg("%s: %s, rule %u", peer, net_reason_name(why), rule);
}

static void test_ingress(void **state)
{
	(void)state;
	use(NET_SCOPE_NONE, "deny any");
	client("192.0.2.1", 80, OPEN, 0);
	use(NET_SCOPE_PUBLIC, "allow in tcp 192.0.2.0/24:80; deny in 192.0.2.0/24;"
			      "allow in loopback; default in deny; allow any");
	client("192.0.2.1", 80, OPEN, 1);
	client("192.0.2.1", 81, RULE, 2);
	client("127.0.0.1", 81, OPEN, 3);
	client("::1", 81, OPEN, 3);
	client("10.0.0.1", 81, NET_REASON_DEFAULT, 0);
	use(NET_SCOPE_PUBLIC, "default in deny; allow in host");
	p.host_addrs[0] = addr("192.168.1.10");
	p.n_host_addrs = 1;
	client("192.168.1.10", 1, OPEN, 1);
	client("127.0.0.1", 1, OPEN, 1);
	client("192.168.1.11", 1, NET_REASON_DEFAULT, 0);
}

static void test_pins(void **state)
{
	struct netaddr a = addr("192.0.2.1"), b = addr("192.0.2.2");
	size_t at = 0;
	char text[32];

	(void)state;
	use(NET_SCOPE_PUBLIC, "");
	pins_add(&pins, &a, "a.example", 0);
	pins_add(&pins, &b, "a.example", 0);
	pins_add(&pins, &a, "b.example", 100);
	assert_string_equal(pins_next(&pins, &a, &at), "a.example");
	assert_string_equal(pins_next(&pins, &a, &at), "b.example");
	assert_null(pins_next(&pins, &a, &at));
	/* At least so long, and a shorter answer does not take back a longer one. */
	pins_add(&pins, &a, "b.example", 0);
	pins.now_ms += PINS_TTL_MIN_MS - 1;
	at = 0;
	assert_string_equal(pins_next(&pins, &a, &at), "a.example");
	pins.now_ms++;
	at = 0;
	assert_string_equal(pins_next(&pins, &a, &at), "b.example");
	/* No TTL is longer than a day. */
	pins_add(&pins, &b, "c.example", UINT32_MAX);
	pins.now_ms += PINS_TTL_MAX_MS;
	at = 0;
	assert_null(pins_next(&pins, &b, &at));
	/* More than there is room for: the oldest gives way. */
	pins.n = 0;
	for (unsigned i = 0; i <= PINS_MAX; i++) {
		snprintf(text, sizeof(text), "n%u.example", i);
		pins_add(&pins, &a, text, 40 + i);
	}
	assert_int_equal(pins.n, PINS_MAX);
	at = 0;
	while (at < pins.n)
		assert_string_not_equal(pins_next(&pins, &a, &at), "n0.example");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_group),
		TEST(test_opens_outside),
		TEST(test_first_match),
		TEST(test_defaults),
		TEST(test_metadata),
		TEST(test_host),
		TEST(test_names_open_what_is_pinned),
		TEST(test_other_resolvers),
		TEST(test_names),
		TEST(test_answers),
		TEST(test_ipv6),
		TEST(test_ingress),
		TEST(test_pins),
	};

	return test_run(tests);
}
