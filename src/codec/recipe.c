/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/recipe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define PATH_LIMIT 4095u

struct recipe_line {
	char *words[RECIPE_WORDS_MAX + 1]; /* into `text`, unquoted in place */
	size_t n;
};

struct recipe_parser {
	struct recipe *r;
	char *text, *at; /* a copy that is cut into words; the rest of it */
	unsigned line;
	struct err *e;
};

bool recipe_match(const char *p, const char *s)
{
	const char *star = NULL, *resume = NULL;

	while (*s) {
		if (*p == '*') {
			star = p++;
			resume = s;
		} else if (*p == '?' || *p == *s) {
			p++;
			s++;
		} else if (star) {
			/* The last star takes one character more; earlier ones need no retry. */
			p = star + 1;
			s = ++resume;
		} else {
			return false;
		}
	}
	while (*p == '*')
		p++;
	return !*p;
}

bool recipe_keeps(const struct recipe *r, const char *path)
{
	for (size_t i = r->n_rules; i-- > 0;)
		if (recipe_match(r->rules[i].pattern, path))
			return r->rules[i].include;
	return true;
}

static int recipe_bad(struct recipe_parser *p, const char *why, const char *word)
{
	char shown[80];
	size_t n = 0;

	for (; word && word[n] && n + 1 < sizeof(shown); n++)
		shown[n] = word[n] < ' ' || word[n] == 0x7f ? '?' : word[n];
	shown[n] = '\0';
	if (!word)
		return err_set(p->e, EINVAL, "line %u: %s", p->line, why);
	return err_set(p->e, EINVAL, "line %u: %s: '%s'", p->line, why, shown);
}

static int recipe_memory(struct recipe_parser *p)
{
	return err_errno(p->e, ENOMEM, "read the recipe");
}

/* ---- words ---- */

/* Cuts the next line out of the text. Return: false at the end. */
static bool recipe_next_line(struct recipe_parser *p, char **line)
{
	char *end;

	if (!*p->at)
		return false;
	*line = p->at;
	end = strchr(p->at, '\n');
	p->at = end ? end + 1 : p->at + strlen(p->at);
	if (end)
		*end = '\0';
	p->line++;
	return true;
}

/* Unquotes the word that starts at *@s, in place; moves *@s behind it. */
static int recipe_take_quoted(struct recipe_parser *p, char **s)
{
	char *from = *s + 1, *to = *s;

	for (; *from != '"'; from++) {
		if (*from == '\\') {
			from++;
			if (*from == 'n')
				*to++ = '\n';
			else if (*from == 't')
				*to++ = '\t';
			else if (*from == '"' || *from == '\\')
				*to++ = *from;
			else
				return recipe_bad(p,
						  "unknown escape; \\n, \\t, \\\" and \\\\ exist",
						  NULL);
			continue;
		}
		if (!*from)
			return recipe_bad(p, "a quote is not closed", NULL);
		*to++ = *from;
	}
	from++;
	if (*from && *from != ' ' && *from != '\t')
		return recipe_bad(p, "a blank is missing after a quoted word", NULL);
	*s = *from ? from + 1 : from;
	*to = '\0';
	return 0;
}

static int recipe_split(struct recipe_parser *p, char *s, struct recipe_line *l)
{
	int rc;

	l->n = 0;
	for (;;) {
		while (*s == ' ' || *s == '\t')
			s++;
		if (!*s || *s == '#')
			break;
		if (l->n == RECIPE_WORDS_MAX)
			return recipe_bad(p, "more than 256 words", NULL);
		l->words[l->n++] = s;
		if (*s == '"') {
			rc = recipe_take_quoted(p, &s);
			if (rc)
				return rc;
			continue;
		}
		while (*s && *s != ' ' && *s != '\t')
			s++;
		if (*s)
			*s++ = '\0';
	}
	l->words[l->n] = NULL;
	return 0;
}

/* ---- checks of single words ---- */

static int recipe_check_path(struct recipe_parser *p, const char *path)
{
	size_t len = strlen(path);

	if (path[0] != '/' || len < 2 || len > PATH_LIMIT)
		return recipe_bad(p, "expected an absolute path", path);
	for (const char *s = path; *s;) {
		size_t n = strcspn(++s, "/");

		if (!n || n > 255 || (n == 1 && s[0] == '.') ||
		    (n == 2 && s[0] == '.' && s[1] == '.'))
			return recipe_bad(p, "expected a path without '//', '.' and '..'", path);
		s += n;
	}
	return 0;
}

static int recipe_get_mode(struct recipe_parser *p, const char *word, uint32_t *mode)
{
	uint32_t v = 0;
	size_t n = 0;

	for (; word[n] >= '0' && word[n] <= '7' && n < 5; n++)
		v = v * 8 + (uint32_t)(word[n] - '0');
	if (!n || word[n] || v > 07777)
		return recipe_bad(p, "expected permissions such as 0644", word);
	*mode = v;
	return 0;
}

/* Debian policy 5.6.1: lower-case letters, digits, plus, minus and point. */
static bool recipe_is_package(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789+-.");

	/* apt-get takes a trailing minus for "remove". */
	return n > 1 && !s[n] && n < 128 && !strchr("+-.", s[0]) && s[n - 1] != '-';
}

/* ---- statements ---- */

static int recipe_append(struct recipe_parser *p, char ***list, char *const *words)
{
	size_t n = strlist_count(*list);

	for (; *words; words++) {
		if (n++ >= RECIPE_LIST_MAX)
			return recipe_bad(p, "the list is too long", NULL);
		if (strlist_add(list, *words))
			return recipe_memory(p);
	}
	return 0;
}

static int recipe_set(struct recipe_parser *p, char **to, const char *word)
{
	free(*to);
	*to = strdup(word);
	return *to ? 0 : recipe_memory(p);
}

static int recipe_step_add(struct recipe_parser *p, enum recipe_kind kind, uint32_t mode,
			   const char *path, const char *arg, size_t arg_len)
{
	struct recipe *r = p->r;
	struct recipe_step *v = reallocarray(r->steps, r->n_steps + 1, sizeof(*v));
	struct recipe_step *s;

	if (!v)
		return recipe_memory(p);
	r->steps = v;
	s = &v[r->n_steps];
	*s = (struct recipe_step){ .kind = kind, .mode = mode, .arg_len = arg_len };
	s->path = strdup(path);
	s->arg = malloc(arg_len + 1);
	r->n_steps++;
	if (!s->path || !s->arg)
		return recipe_memory(p);
	memcpy(s->arg, arg, arg_len);
	s->arg[arg_len] = '\0';
	return 0;
}

static int recipe_do_name(struct recipe_parser *p, char **w)
{
	size_t n = strspn(w[0], "abcdefghijklmnopqrstuvwxyz0123456789-");

	if (w[0][n] || !n || n >= RECIPE_NAME_MAX || w[0][0] == '-' || w[0][n - 1] == '-' ||
	    strstr(w[0], "--"))
		return recipe_bad(p, "a name has lower-case letters, digits and single '-'", w[0]);
	snprintf(p->r->name, sizeof(p->r->name), "%s", w[0]);
	return 0;
}

static int recipe_do_package(struct recipe_parser *p, char **w)
{
	for (char **s = w; *s; s++)
		if (!recipe_is_package(*s))
			return recipe_bad(p, "not the name of a Debian package", *s);
	return recipe_append(p, &p->r->packages, w);
}

static int recipe_do_omit(struct recipe_parser *p, char **w)
{
	for (char **s = w; *s; s++)
		if (!recipe_is_package(*s))
			return recipe_bad(p, "not the name of a Debian package", *s);
	return recipe_append(p, &p->r->omit, w);
}

static int recipe_add_rules(struct recipe_parser *p, char **w, bool include)
{
	for (; *w; w++) {
		struct recipe_rule *v = reallocarray(p->r->rules, p->r->n_rules + 1, sizeof(*v));

		if (!v)
			return recipe_memory(p);
		p->r->rules = v;
		if ((*w)[0] != '/')
			return recipe_bad(p, "expected a pattern that starts with '/'", *w);
		v[p->r->n_rules] = (struct recipe_rule){ include, strdup(*w) };
		if (!v[p->r->n_rules].pattern)
			return recipe_memory(p);
		p->r->n_rules++;
	}
	return 0;
}

static int recipe_do_exclude(struct recipe_parser *p, char **w)
{
	return recipe_add_rules(p, w, false);
}

static int recipe_do_include(struct recipe_parser *p, char **w)
{
	return recipe_add_rules(p, w, true);
}

static int recipe_do_dir(struct recipe_parser *p, char **w)
{
	uint32_t mode;
	int rc = recipe_get_mode(p, w[0], &mode);

	for (w++; !rc && *w; w++) {
		rc = recipe_check_path(p, *w);
		if (!rc)
			rc = recipe_step_add(p, RECIPE_DIR, mode, *w, "", 0);
	}
	return rc;
}

static int recipe_do_link(struct recipe_parser *p, char **w)
{
	int rc = recipe_check_path(p, w[0]);

	if (!rc && (!w[1][0] || strlen(w[1]) > PATH_LIMIT))
		rc = recipe_bad(p, "an empty or too long target", w[1]);
	return rc ? rc : recipe_step_add(p, RECIPE_LINK, 0777, w[0], w[1], strlen(w[1]));
}

/* file MODE PATH <<END: the lines up to one that is END */
static int recipe_do_file(struct recipe_parser *p, char **w)
{
	unsigned first = p->line;
	const char *end = w[2] + 2;
	uint32_t mode;
	char *line, *start = p->at, *to = p->at;
	int rc = recipe_get_mode(p, w[0], &mode);

	if (!rc)
		rc = recipe_check_path(p, w[1]);
	if (!rc && (strncmp(w[2], "<<", 2) || !*end))
		rc = recipe_bad(p, "expected <<END and the content on the lines that follow", w[2]);
	if (rc)
		return rc;
	while (recipe_next_line(p, &line)) {
		size_t n = strlen(line);

		if (!strcmp(line, end))
			return recipe_step_add(p, RECIPE_FILE, mode, w[1], start,
					       (size_t)(to - start));
		memmove(to, line, n);
		to += n;
		*to++ = '\n';
	}
	p->line = first;
	return recipe_bad(p, "the content has no last line", end);
}

static int recipe_do_join(struct recipe_parser *p, char **w)
{
	uint32_t mode;
	int rc = recipe_get_mode(p, w[0], &mode);

	if (!rc)
		rc = recipe_check_path(p, w[1]);
	if (!rc && w[2][0] != '/')
		rc = recipe_bad(p, "expected a pattern that starts with '/'", w[2]);
	return rc ? rc : recipe_step_add(p, RECIPE_JOIN, mode, w[1], w[2], strlen(w[2]));
}

static int recipe_do_bytecode(struct recipe_parser *p, char **w)
{
	int rc = recipe_check_path(p, w[0]);

	if (!rc)
		rc = recipe_set(p, &p->r->bytecode_python, w[0]);
	for (char **s = w + 1; !rc && *s; s++)
		if ((*s)[0] != '/' || strstr(*s, ".."))
			rc = recipe_bad(p, "expected an absolute path without '..'", *s);
	return rc ? rc : recipe_append(p, &p->r->bytecode_dirs, w + 1);
}

static int recipe_do_library_cache(struct recipe_parser *p, char **w)
{
	(void)w;
	p->r->ld_cache = true;
	return 0;
}

static int recipe_do_entrypoint(struct recipe_parser *p, char **w)
{
	return recipe_append(p, &p->r->config.entrypoint, w);
}

static int recipe_do_cmd(struct recipe_parser *p, char **w)
{
	return recipe_append(p, &p->r->config.cmd, w);
}

static int recipe_pairs(struct recipe_parser *p, char ***list, char **w)
{
	for (char **s = w; *s; s++)
		if ((*s)[0] == '=' || !strchr(*s, '='))
			return recipe_bad(p, "expected NAME=value", *s);
	return recipe_append(p, list, w);
}

static int recipe_do_env(struct recipe_parser *p, char **w)
{
	return recipe_pairs(p, &p->r->config.env, w);
}

static int recipe_do_label(struct recipe_parser *p, char **w)
{
	return recipe_pairs(p, &p->r->config.labels, w);
}

static int recipe_do_workdir(struct recipe_parser *p, char **w)
{
	int rc = recipe_check_path(p, w[0]);

	return rc ? rc : recipe_set(p, &p->r->config.workdir, w[0]);
}

static int recipe_do_user(struct recipe_parser *p, char **w)
{
	return recipe_set(p, &p->r->config.user, w[0]);
}

static int recipe_do_stop_signal(struct recipe_parser *p, char **w)
{
	return recipe_set(p, &p->r->config.stop_signal, w[0]);
}

static const struct {
	const char *keyword;
	uint16_t min, max; /* words after it */
	int (*run)(struct recipe_parser *p, char **words);
} recipe_statements[] = {
	{ "name", 1, 1, recipe_do_name },
	{ "package", 1, RECIPE_WORDS_MAX, recipe_do_package },
	{ "omit", 1, RECIPE_WORDS_MAX, recipe_do_omit },
	{ "exclude", 1, RECIPE_WORDS_MAX, recipe_do_exclude },
	{ "include", 1, RECIPE_WORDS_MAX, recipe_do_include },
	{ "dir", 2, RECIPE_WORDS_MAX, recipe_do_dir },
	{ "link", 2, 2, recipe_do_link },
	{ "file", 3, 3, recipe_do_file },
	{ "join", 3, 3, recipe_do_join },
	{ "python-bytecode", 2, RECIPE_WORDS_MAX, recipe_do_bytecode },
	{ "library-cache", 0, 0, recipe_do_library_cache },
	{ "entrypoint", 1, RECIPE_WORDS_MAX, recipe_do_entrypoint },
	{ "cmd", 1, RECIPE_WORDS_MAX, recipe_do_cmd },
	{ "env", 1, RECIPE_WORDS_MAX, recipe_do_env },
	{ "label", 1, RECIPE_WORDS_MAX, recipe_do_label },
	{ "workdir", 1, 1, recipe_do_workdir },
	{ "user", 1, 1, recipe_do_user },
	{ "stop-signal", 1, 1, recipe_do_stop_signal },
};

static int recipe_run_line(struct recipe_parser *p, char *line)
{
	struct recipe_line l;
	int rc = recipe_split(p, line, &l);

	if (rc || !l.n)
		return rc;
	for (size_t i = 0; i < ARRAY_SIZE(recipe_statements); i++) {
		if (strcmp(recipe_statements[i].keyword, l.words[0]))
			continue;
		if (l.n - 1 < recipe_statements[i].min || l.n - 1 > recipe_statements[i].max)
			return recipe_bad(p, "too few or too many words after", l.words[0]);
		return recipe_statements[i].run(p, l.words + 1);
	}
	return recipe_bad(p, "unknown statement", l.words[0]);
}

int recipe_parse(const char *text, size_t len, struct recipe *out, struct err *e)
{
	struct recipe r = { .name = "" };
	struct recipe_parser p = { .r = &r, .e = e };
	char *line;
	int rc = 0;

	if (len > RECIPE_TEXT_MAX)
		return err_set(e, EINVAL, "a recipe has at most %u KiB", RECIPE_TEXT_MAX >> 10);
	if (memchr(text, '\0', len))
		return err_set(e, EINVAL, "a recipe is a text, but this has NUL bytes");
	p.text = malloc(len + 2);
	if (!p.text)
		return recipe_memory(&p);
	memcpy(p.text, text, len);
	/* Every line has an end: what is cut out of it never grows. */
	p.text[len] = '\n';
	p.text[len + 1] = '\0';
	p.at = p.text;
	while (!rc && recipe_next_line(&p, &line))
		rc = recipe_run_line(&p, line);
	free(p.text);
	if (!rc && !r.name[0])
		rc = err_set(e, EINVAL, "the recipe has no line 'name …'");
	if (!rc && !r.packages)
		rc = err_set(e, EINVAL, "the recipe takes no package");
	if (rc)
		recipe_fini(&r);
	else
		*out = r;
	return rc;
}

void recipe_fini(struct recipe *r)
{
	strlist_free(r->packages);
	strlist_free(r->omit);
	strlist_free(r->bytecode_dirs);
	free(r->bytecode_python);
	while (r->n_rules)
		free(r->rules[--r->n_rules].pattern);
	free(r->rules);
	while (r->n_steps) {
		struct recipe_step *s = &r->steps[--r->n_steps];

		free(s->path);
		free(s->arg);
	}
	free(r->steps);
	image_config_fini(&r->config);
	*r = (struct recipe){ .name = "" };
}
