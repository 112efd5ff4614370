/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/secret.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define SECRET_HEAD "secrets 1"
#define SECRET_TLS_PORT 443
#define SECRET_DNS_PORT 53

void secret_fini(struct secret *s)
{
	if (s->value)
		explicit_bzero(s->value, s->value_len);
	free(s->value);
	*s = (struct secret){ .value = NULL };
}

void secret_list_fini(struct secret_list *l)
{
	for (unsigned i = 0; i < l->n; i++)
		secret_fini(&l->v[i]);
	free(l->v);
	*l = (struct secret_list){ .v = NULL };
}

int secret_list_add(struct secret_list *l, struct secret *s, struct err *e)
{
	struct secret *v;
	int rc = 0;

	for (unsigned i = 0; i < l->n && !rc; i++)
		if (!strcmp(l->v[i].name, s->name))
			rc = err_set(e, EINVAL, "secret %s is given twice", s->name);
	if (!rc && l->n == SECRETS_MAX)
		rc = err_set(e, E2BIG, "more than %u secrets", SECRETS_MAX);
	if (!rc) {
		v = reallocarray(l->v, l->n + 1, sizeof(*v));
		if (v) {
			l->v = v;
			l->v[l->n++] = *s;
			return 0;
		}
		rc = err_errno(e, ENOMEM, "secrets");
	}
	secret_fini(s);
	return rc;
}

/* ---- its parts ----------------------------------------------------------------- */

static bool secret_is_name(const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		const char c = name[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
		      (i && c >= '0' && c <= '9')))
			return false;
	}
	return len && len <= SECRET_NAME_MAX;
}

int secret_set_name(struct secret *s, const char *name, size_t len, struct err *e)
{
	if (!secret_is_name(name, len))
		return err_set(e, EINVAL,
			       "a secret's name is that of an environment variable: at most %u "
			       "letters, digits and _",
			       SECRET_NAME_MAX);
	memcpy(s->name, name, len);
	s->name[len] = '\0';
	return 0;
}

int secret_add_host(struct secret *s, const char *host, size_t len, struct err *e)
{
	char line[NETRULE_TEXT_MAX];
	struct netrule *r = &s->hosts[s->n_hosts];
	int n;

	if (s->n_hosts == SECRET_HOSTS_MAX)
		return err_set(e, E2BIG, "secret %s: more than %u hosts", s->name, SECRET_HOSTS_MAX);
	if (!len || len > NETRULE_NAME_MAX + 8 || memchr(host, '\0', len) || memchr(host, ' ', len))
		return err_set(e, EINVAL, "secret %s: a host is missing or no name", s->name);
	n = snprintf(line, sizeof(line), "allow tcp %.*s", (int)len, host);
	if (netrule_parse(line, (size_t)n, r, e))
		return err_wrap(e, "secret %s", s->name), -EINVAL;
	if (r->target != NETRULE_NAME && r->target != NETRULE_SUFFIX)
		return err_set(e, EINVAL,
			       "secret %s: '%.*s' is no domain name: a secret goes to hosts with "
			       "names (one of one label ends in a dot)",
			       s->name, (int)len, host);
	if (!r->n_ports)
		r->ports[r->n_ports++] = (struct netrule_range){ SECRET_PORT, SECRET_PORT };
	if (netrule_matches_port(r, NETRULE_TCP, SECRET_TLS_PORT))
		return err_set(e, EINVAL,
			       "secret %s: port 443 is TLS, which is not supported: values are put "
			       "into plain HTTP",
			       s->name);
	if (netrule_matches_port(r, NETRULE_TCP, SECRET_DNS_PORT))
		return err_set(e, EINVAL, "secret %s: port 53 is DNS", s->name);
	s->n_hosts++;
	return 0;
}

int secret_set_value(struct secret *s, const char *value, size_t len, struct err *e)
{
	if (!len || len > SECRET_VALUE_MAX)
		return err_set(e, EINVAL, "secret %s: its value is %s", s->name,
			       len ? "too long (limit 4096 bytes)" : "empty");
	for (size_t i = 0; i < len; i++)
		if ((uint8_t)value[i] < 0x20 || value[i] == 0x7f)
			return err_set(e, EINVAL,
				       "secret %s: its value has a control character or a line "
				       "end in it, which no header can hold",
				       s->name);
	if (value[0] == ' ' || value[len - 1] == ' ')
		return err_set(e, EINVAL, "secret %s: its value begins or ends with a space",
			       s->name);
	s->value = malloc(len + 1);
	if (!s->value)
		return err_errno(e, ENOMEM, "secret");
	memcpy(s->value, value, len);
	s->value[len] = '\0';
	s->value_len = len;
	return 0;
}

char *secret_env(const struct secret *s, char text[SECRET_ENV_MAX])
{
	snprintf(text, SECRET_ENV_MAX, "%s=" SECRET_PLACEHOLDER "%s", s->name, s->name);
	return text;
}

bool secret_is_for(const struct secret *s, const char *name, uint16_t port)
{
	for (unsigned i = 0; i < s->n_hosts; i++)
		if (netrule_matches_name(&s->hosts[i], name) &&
		    netrule_matches_port(&s->hosts[i], NETRULE_TCP, port))
			return true;
	return false;
}

/* ---- as people write it ----------------------------------------------------------- */

static int secret_parse_hosts(struct secret *s, const char *at, struct err *e)
{
	int rc;

	for (;;) {
		size_t n = strcspn(at, ",");

		rc = secret_add_host(s, at, n, e);
		if (rc || !at[n])
			return rc;
		at += n + 1;
	}
}

static int secret_parse_source(const struct secret *s, const char *from, size_t len,
			       struct secret_source *source, struct err *e)
{
	if (len > 4 && !strncmp(from, "env:", 4))
		*source = (struct secret_source){ SECRET_FROM_ENV, from + 4, len - 4 };
	else if (len > 5 && !strncmp(from, "file:", 5))
		*source = (struct secret_source){ SECRET_FROM_FILE, from + 5, len - 5 };
	else
		/* What stands there may be a value: it is not repeated. */
		return err_set(e, EINVAL,
			       "secret %s: write =env:VARIABLE or =file:PATH; a value on a command "
			       "line is seen by everybody on this machine",
			       s->name);
	return 0;
}

int secret_parse(const char *text, struct secret *out, struct secret_source *source, struct err *e)
{
	const char *at = strrchr(text, '@'), *eq = strchr(text, '=');
	size_t n_name;
	int rc;

	if (!at)
		return err_set(e, EINVAL,
			       "to which hosts? Write NAME@HOST, NAME=env:VARIABLE@HOST or "
			       "NAME=file:PATH@HOST");
	if (eq && eq > at)
		eq = NULL;
	n_name = (size_t)((eq ? eq : at) - text);
	rc = secret_set_name(out, text, n_name, e);
	*source = (struct secret_source){ SECRET_FROM_ENV, out->name, n_name };
	if (!rc && eq)
		rc = secret_parse_source(out, eq + 1, (size_t)(at - eq) - 1, source, e);
	return rc ? rc : secret_parse_hosts(out, at + 1, e);
}

/* ---- for msb-net ------------------------------------------------------------------ */

/* "allow out tcp example.org:80" without what stands before the name. */
static const char *secret_host_text(const struct netrule *r, char text[NETRULE_TEXT_MAX])
{
	const char *last = strrchr(netrule_format(r, text), ' ');

	return last ? last + 1 : text;
}

int secret_list_format(const struct secret_list *l, struct buf *out)
{
	char text[NETRULE_TEXT_MAX];
	int rc = buf_append(out, SECRET_HEAD "\n", sizeof(SECRET_HEAD));

	for (unsigned i = 0; i < l->n && !rc; i++) {
		const struct secret *s = &l->v[i];

		rc = buf_append(out, "secret ", 7);
		rc = rc ? rc : buf_append(out, s->name, strlen(s->name));
		for (unsigned h = 0; h < s->n_hosts && !rc; h++) {
			const char *host = secret_host_text(&s->hosts[h], text);

			rc = buf_append(out, "\nhost ", 6);
			rc = rc ? rc : buf_append(out, host, strlen(host));
		}
		rc = rc ? rc : buf_append(out, "\nvalue ", 7);
		rc = rc ? rc : buf_append(out, s->value, s->value_len);
		rc = rc ? rc : buf_append(out, "\n", 1);
	}
	return rc;
}

/* Whether a line begins with @word and a space; it is moved behind them then. */
static bool secret_word(const char **line, size_t *len, const char *word)
{
	size_t n = strlen(word);

	if (*len <= n || memcmp(*line, word, n) || (*line)[n] != ' ')
		return false;
	*line += n + 1;
	*len -= n + 1;
	return true;
}

/* One line; a secret is complete with its value. */
static int secret_parse_line(struct secret_list *l, struct secret *s, const char *line, size_t len,
			     struct err *e)
{
	int rc;

	if (!s->name[0] && secret_word(&line, &len, "secret"))
		return secret_set_name(s, line, len, e);
	if (s->name[0] && secret_word(&line, &len, "host"))
		return secret_add_host(s, line, len, e);
	if (!s->n_hosts || !secret_word(&line, &len, "value"))
		return err_set(e, EINVAL, "secrets: a line is out of place");
	rc = secret_set_value(s, line, len, e);
	if (!rc) {
		rc = secret_list_add(l, s, e);
		*s = (struct secret){ .value = NULL };
	}
	return rc;
}

static int secret_parse_lines(struct secret_list *l, struct secret *s, const char *text, size_t len,
			      struct err *e)
{
	bool first = true;
	int rc = 0;

	while (len && !rc) {
		const char *end = memchr(text, '\n', len);
		size_t n = end ? (size_t)(end - text) : len;

		if (!end)
			return err_set(e, EINVAL, "secrets: the last line does not end");
		if (!first)
			rc = secret_parse_line(l, s, text, n, e);
		else if (n != sizeof(SECRET_HEAD) - 1 || memcmp(text, SECRET_HEAD, n))
			rc = err_set(e, EINVAL, "secrets: not of the form '" SECRET_HEAD "'");
		first = false;
		text += n + 1;
		len -= n + 1;
	}
	if (!rc && (first || s->name[0]))
		rc = err_set(e, EINVAL, "secrets: the text is incomplete");
	return rc;
}

int secret_list_parse(const char *text, size_t len, struct secret_list *out, struct err *e)
{
	struct secret_list l = { .v = NULL };
	auto_free struct secret *s = calloc(1, sizeof(*s));
	int rc = s ? secret_parse_lines(&l, s, text, len, e) : err_errno(e, ENOMEM, "secrets");

	if (s)
		secret_fini(s);
	if (rc) {
		secret_list_fini(&l);
		return rc;
	}
	*out = l;
	return 0;
}
