/* SPDX-License-Identifier: Apache-2.0 */
/* A resolver's answer, and the guest's that is made of it. */
#include <errno.h>

#include "codec/dns_wire.h"

#define DNS_KNOWN_MAX 32u /* names in the new message that later ones may point to */

struct dns_reader {
	const uint8_t *msg;
	size_t len;
	size_t answers; /* where they start */
	unsigned n_answers, n_authority;
	const struct dns_query *q;
	const struct dns_filter *f;
	struct dns_name aliases[DNS_ALIASES_MAX]; /* of the question's name, itself first */
	unsigned n_aliases;
	struct dns_answer *out;
	uint16_t known[DNS_KNOWN_MAX]; /* offsets of names in out */
	unsigned n_known;
};

/* ---- writing ---------------------------------------------------------------- */

static bool dns_write(struct dns_answer *a, const void *p, size_t n)
{
	if (DNS_MESSAGE_MAX - DNS_OPT_LEN - a->len < n)
		return false;
	memcpy(a->bytes + a->len, p, n);
	a->len += n;
	return true;
}

static bool dns_write16(struct dns_answer *a, unsigned v)
{
	uint8_t b[2];

	dns_put16(b, v);
	return dns_write(a, b, 2);
}

/* A name, as a pointer if the whole of it is there already. */
static bool dns_write_name(struct dns_reader *r, const struct dns_name *n)
{
	for (unsigned i = 0; i < r->n_known; i++) {
		size_t at = r->known[i];
		struct dns_name old;

		if (dns_name_read(r->out->bytes, r->out->len, &at, &old) &&
		    dns_name_equal(&old, n->wire, n->len))
			return dns_write16(r->out, 0xc000u | r->known[i]);
	}
	if (r->n_known < DNS_KNOWN_MAX && r->out->len < 0x4000)
		r->known[r->n_known++] = (uint16_t)r->out->len;
	return dns_write(r->out, n->wire, n->len);
}

/* Names in the data of a type, RFC 1035 §3.3 and 2782: @before plain bytes, then @names. */
static bool dns_data_names(uint16_t type, size_t *before, unsigned *names)
{
	*before = 0;
	*names = 1;
	switch (type) {
	case DNS_NS:
	case DNS_CNAME:
	case DNS_PTR:
	case DNS_DNAME:
		return true;
	case DNS_MX:
		*before = 2;
		return true;
	case DNS_SRV:
		*before = 6;
		return true;
	case DNS_SOA:
		*names = 2;
		return true;
	default:
		return false;
	}
}

/* The data of a record. Of types that we do not know it holds no pointers: RFC 3597 §4. */
static bool dns_write_data(struct dns_reader *r, const struct dns_record *rec)
{
	size_t before, at = rec->data, end = rec->data + rec->data_len;
	struct dns_name name;
	unsigned names;

	if (!dns_data_names(rec->type, &before, &names))
		return dns_write(r->out, r->msg + at, rec->data_len);
	if (rec->data_len < before || !dns_write(r->out, r->msg + at, before))
		return false;
	at += before;
	for (; names; names--) {
		if (!dns_name_read(r->msg, end, &at, &name))
			return false;
		/* Only the types of RFC 1035 may have pointers in them. */
		if (rec->type == DNS_SRV || rec->type == DNS_DNAME
			    ? !dns_write(r->out, name.wire, name.len)
			    : !dns_write_name(r, &name))
			return false;
	}
	return dns_write(r->out, r->msg + at, end - at);
}

static bool dns_write_record(struct dns_reader *r, const struct dns_record *rec)
{
	size_t length;

	if (!dns_write_name(r, &rec->owner) || !dns_write16(r->out, rec->type) ||
	    !dns_write16(r->out, rec->class) || !dns_write16(r->out, rec->ttl >> 16) ||
	    !dns_write16(r->out, rec->ttl & 0xffff))
		return false;
	length = r->out->len;
	if (!dns_write16(r->out, 0) || !dns_write_data(r, rec))
		return false;
	dns_put16(r->out->bytes + length, (unsigned)(r->out->len - length - 2));
	return true;
}

/* ---- reading ---------------------------------------------------------------- */

static bool dns_is_alias(const struct dns_reader *r, const struct dns_name *n)
{
	for (unsigned i = 0; i < r->n_aliases; i++)
		if (dns_name_equal(&r->aliases[i], n->wire, n->len))
			return true;
	return false;
}

/* Adds what the aliases known so far are aliases of. Return: how many; -EBADMSG. */
static int dns_find_aliases(struct dns_reader *r)
{
	size_t at = r->answers;
	struct dns_record rec;
	int found = 0;

	for (unsigned i = 0; i < r->n_answers; i++) {
		struct dns_name target;
		size_t data;

		if (!dns_record_read(r->msg, r->len, &at, &rec))
			return -EBADMSG;
		if (rec.type != DNS_CNAME || !dns_is_alias(r, &rec.owner))
			continue;
		data = rec.data;
		if (!dns_name_read(r->msg, rec.data + rec.data_len, &data, &target))
			return -EBADMSG;
		if (dns_is_alias(r, &target))
			continue;
		if (r->n_aliases == DNS_ALIASES_MAX)
			return -EBADMSG;
		r->aliases[r->n_aliases++] = target;
		found++;
	}
	return found;
}

static int dns_check_aliases(struct dns_reader *r)
{
	char text[DNS_NAME_MAX + 1];
	int n;

	/* Usually in order, so that the first round finds all. */
	do
		n = dns_find_aliases(r);
	while (n > 0);
	if (n < 0)
		return n;
	for (unsigned i = 1; i < r->n_aliases; i++) {
		if (!dns_name_text(&r->aliases[i], text))
			return -EBADMSG;
		if (!r->f->alias(r->f->ctx, text))
			r->out->refused = true;
	}
	return 0;
}

/* Return: 1 = the guest gets it, 0 = not, -EBADMSG. */
static int dns_wanted(struct dns_reader *r, const struct dns_record *rec)
{
	const uint8_t *data = r->msg + rec->data;
	struct netaddr addr;
	bool keep;

	if (rec->class != r->q->class || !dns_is_alias(r, &rec->owner))
		return 0;
	switch (rec->type) {
	case DNS_A:
		if (rec->data_len != 4)
			return -EBADMSG;
		addr = netaddr_v4((uint32_t)dns_get16(data) << 16 | dns_get16(data + 2));
		break;
	case DNS_AAAA:
		if (rec->data_len != 16)
			return -EBADMSG;
		memcpy(addr.b, data, 16);
		/* It would be taken for the IPv4 address that it is not on the wire. */
		if (r->f->no_ipv6 || netaddr_is_v4(&addr))
			return 0;
		break;
	case DNS_SVCB:
	case DNS_HTTPS:
		return !r->f->no_hints;
	case DNS_OPT:
		return 0;
	default:
		return 1;
	}
	keep = r->f->address(r->f->ctx, &addr, rec->ttl);
	r->out->kept += keep;
	r->out->stripped += !keep;
	return keep;
}

/* Return: how many records were written, or -EBADMSG. */
static int dns_copy(struct dns_reader *r, size_t *at, unsigned n, bool authority)
{
	struct dns_record rec;
	int written = 0, want;

	for (; n; n--) {
		if (!dns_record_read(r->msg, r->len, at, &rec))
			return -EBADMSG;
		if (authority)
			want = rec.type != DNS_A && rec.type != DNS_AAAA && rec.type != DNS_OPT;
		else
			want = dns_wanted(r, &rec);
		if (want < 0 || (want && !dns_write_record(r, &rec)))
			return -EBADMSG;
		written += want;
	}
	return written;
}

static int dns_make(struct dns_reader *r)
{
	struct dns_answer *out = r->out;
	size_t at = r->answers;
	int n, m;

	dns_put_header(r->q, out->rcode, out->truncated, out->bytes);
	out->bytes[2] |= r->msg[2] & 4; /* authoritative */
	out->bytes[3] |= r->msg[3] & 0x20; /* authentic */
	out->len = DNS_HEADER;
	out->len += dns_put_question(r->q, out->bytes + out->len);
	r->known[r->n_known++] = DNS_HEADER;
	n = dns_copy(r, &at, r->n_answers, false);
	m = n < 0 ? n : dns_copy(r, &at, r->n_authority, true);
	if (m < 0)
		return m;
	dns_put16(out->bytes + 6, (unsigned)n);
	dns_put16(out->bytes + 8, (unsigned)m);
	if (r->q->edns) {
		dns_put16(out->bytes + 10, 1);
		out->len += dns_put_opt(r->q, 0, out->bytes + out->len);
	}
	return 0;
}

int dns_answer_read(const uint8_t *msg, size_t len, const struct dns_query *q, uint16_t id,
		    const struct dns_filter *f, struct dns_answer *out)
{
	struct dns_reader r = { .msg = msg, .len = len, .q = q, .f = f, .out = out };
	size_t at = DNS_HEADER;
	struct dns_name name;
	int rc;

	if (len < DNS_HEADER || len > DNS_MESSAGE_MAX || dns_get16(msg) != id || !(msg[2] & 0x80) ||
	    msg[2] & 0x78 || dns_get16(msg + 4) != 1 || !dns_name_read(msg, len, &at, &name) ||
	    len - at < 4 || !dns_name_equal(&name, q->wire, q->wire_len) ||
	    dns_get16(msg + at) != q->type || dns_get16(msg + at + 2) != q->class)
		return -ESRCH;
	r.answers = at + 4;
	r.n_answers = dns_get16(msg + 6);
	r.n_authority = dns_get16(msg + 8);
	if (r.n_answers > DNS_RECORDS_MAX || r.n_authority > DNS_RECORDS_MAX - r.n_answers)
		return -EBADMSG;
	out->rcode = (enum dns_rcode)(msg[3] & 15);
	out->truncated = msg[2] >> 1 & 1;
	out->kept = out->stripped = 0;
	out->refused = false;
	r.aliases[r.n_aliases++] = name;
	rc = dns_check_aliases(&r);
	if (!rc && !out->refused)
		rc = dns_make(&r);
	if (rc)
		return rc;
	if (out->refused || (out->stripped && !out->kept))
		out->len = dns_error_build(q, DNS_NXDOMAIN, false, true, out->bytes);
	return 0;
}
