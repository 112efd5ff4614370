/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_NETRULE_H
#define MSB_CODEC_NETRULE_H

/*
 * The rules of a sandbox's network, as text and as data.
 *
 *   rule   = ("allow" | "deny") ["in" | "out"] ["tcp" | "udp" | "icmp" | "any"] target [":" ports]
 *   target = address | address "/" bits | name | "*." name | group
 *   group  = "any" | "public" | "private" | "loopback" | "link-local" | "metadata" | "host" |
 *            "group"
 *   ports  = range {"," range}, range = number ["-" number]
 *
 * An IPv6 target with ports stands in brackets: [2001:db8::/32]:443.  A name of one label
 * ends in a dot ("db."), so that a group that was misspelt is an error and not a name; it is
 * the only kind of name that a rule for what comes in takes: a member of the sandbox's group.
 *
 * A policy is rules and defaults, one a line.  Lines are separated by newlines or ";".
 *
 *   default [in|out] (allow | deny)
 *   limit KEY NUMBER[K|M|G]
 *
 * The first rule that matches decides; where none does, the default, and without one the
 * sandbox's scope.
 */

#include "base/buf.h"
#include "base/err.h"
#include "codec/netaddr.h"

#define NETRULE_NAME_MAX 253u /* RFC 1035 §2.3.4, in text without the last dot */
#define NETRULE_RANGES_MAX 8u
#define NETRULE_TEXT_MAX 512u /* a rule, in its canonical form with its NUL */

enum netrule_dir { NETRULE_OUT, NETRULE_IN };

enum netrule_proto { NETRULE_ANY, NETRULE_TCP, NETRULE_UDP, NETRULE_ICMP };

enum netrule_target {
	NETRULE_NET, /* addr/bits; a single address has 128 bits */
	NETRULE_NAME,
	NETRULE_SUFFIX, /* whatever ends in "." name */
	NETRULE_GROUP,
};

enum netrule_group {
	NETRULE_GROUP_ANY, /* all but metadata services */
	NETRULE_GROUP_PUBLIC,
	NETRULE_GROUP_PRIVATE,
	NETRULE_GROUP_LOOPBACK, /* the host's, which the guest reaches as 10.0.2.4 */
	NETRULE_GROUP_LINK_LOCAL,
	NETRULE_GROUP_METADATA,
	NETRULE_GROUP_HOST, /* its loopback and all of its own addresses */
	NETRULE_GROUP_MEMBERS, /* "group": the other members of the sandbox's group */
};

struct netrule_range {
	uint16_t first, last;
};

struct netrule {
	bool allow;
	enum netrule_dir dir;
	enum netrule_proto proto;
	enum netrule_target target;
	enum netrule_group group;
	struct netaddr addr;
	unsigned bits; /* of addr; counted from the front of 16 bytes */
	char name[NETRULE_NAME_MAX + 1]; /* lower case, without the last dot */
	struct netrule_range ports[NETRULE_RANGES_MAX]; /* none = every port */
	unsigned n_ports;
};

#define NETPOLICY_RULES_MAX 64u
#define NETPOLICY_TEXT_MAX (NETPOLICY_RULES_MAX * NETRULE_TEXT_MAX)

enum netpolicy_default { NETPOLICY_SCOPE, NETPOLICY_ALLOW, NETPOLICY_DENY };

enum netlimit {
	NETLIMIT_OUT_BYTES, /* a second, in frames */
	NETLIMIT_IN_BYTES,
	NETLIMIT_OUT_PACKETS, /* a second */
	NETLIMIT_IN_PACKETS,
	NETLIMIT_CONNECTS, /* TCP connections that begin in a second */
	NETLIMIT_CONNECTIONS, /* TCP connections at once */
	NETLIMITS,
};

#define NETLIMIT_MAX 1000000000000ull

struct netpolicy {
	struct netrule rules[NETPOLICY_RULES_MAX];
	unsigned n_rules;
	enum netpolicy_default out, in; /* in: NETPOLICY_SCOPE allows */
	uint64_t limits[NETLIMITS]; /* 0 = none */
};

/**
 * netrule_parse() - one rule of text
 * @text, @len: as somebody typed it; no newline, need not end in NUL
 *
 * Return: 0, or -EINVAL with what is wrong and what to write instead.
 */
int netrule_parse(const char *text, size_t len, struct netrule *out, struct err *e);

/* The canonical text of a rule, which netrule_parse() reads back as the same. Return: @text. */
char *netrule_format(const struct netrule *r, char text[NETRULE_TEXT_MAX]);

/* Reads a policy; *@out is written on success only. Empty text is an empty policy. */
int netpolicy_parse(const char *text, size_t len, struct netpolicy *out, struct err *e);

/* One line of it, added to what @p has. */
int netpolicy_add(struct netpolicy *p, const char *line, size_t len, struct err *e);

/* Appends the canonical text of @p, lines ended by newlines. Return: 0 or -ENOMEM. */
int netpolicy_format(const struct netpolicy *p, struct buf *out);

/*
 * What the supervisor says to a running msb-net, a message each: "policy 1", a newline, and
 * all of the policy that holds from now on; see codec/netcontrol.h for the answer.
 */
#define NETPOLICY_MESSAGE "policy 1\n"
#define NETPOLICY_MESSAGE_MAX (sizeof(NETPOLICY_MESSAGE) - 1 + NETPOLICY_TEXT_MAX)

int netpolicy_parse_message(const char *msg, size_t len, struct netpolicy *out, struct err *e);

/* Does a rule, or the default, open the host's loopback (10.0.2.4 as the guest has it)? */
bool netpolicy_opens_loopback(const struct netpolicy *p);

/* Does a rule open a metadata service? */
bool netpolicy_opens_metadata(const struct netpolicy *p);

/* Does a rule of this direction open anything? */
bool netpolicy_opens(const struct netpolicy *p, enum netrule_dir dir);

/* The same for what goes out, leaving aside rules that speak of the sandbox's group alone. */
bool netpolicy_opens_outside(const struct netpolicy *p);

/* Is there a rule with a name in it? */
bool netpolicy_has_names(const struct netpolicy *p);

/* Does a rule with a name speak of @name (lower case, without the last dot)? */
bool netrule_matches_name(const struct netrule *r, const char *name);

/* Is @port, 0 for a protocol without ports, among the rule's? And its protocol? */
bool netrule_matches_port(const struct netrule *r, enum netrule_proto proto, uint16_t port);

/* Does a rule with an address cover @a? */
bool netrule_matches_addr(const struct netrule *r, const struct netaddr *a);

/* Does it stand for all ports and protocols of its target? */
static inline bool netrule_is_whole(const struct netrule *r)
{
	return r->proto == NETRULE_ANY && !r->n_ports;
}

#endif
