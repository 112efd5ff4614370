/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *cli_program = "msb";

static void cli_vsay(const char *kind, const char *fmt, va_list ap)
{
	char line[ERR_MSG_MAX + 128];

	vsnprintf(line, sizeof(line), fmt, ap);
	fprintf(stderr, "%s: %s%s\n", cli_program, kind, line);
}

void cli_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	cli_vsay("error: ", fmt, ap);
	va_end(ap);
}

void cli_notice(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	cli_vsay("", fmt, ap);
	va_end(ap);
}

int cli_fail(const struct err *e)
{
	if (e->code != CLI_TOLD)
		cli_error("%s", err_text(e));
	return CLI_FAILED;
}

int cli_usage(const struct cli_command *cmd, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	cli_vsay("error: ", fmt, ap);
	va_end(ap);
	fprintf(stderr, "Try: msb help %s\n", cmd->name);
	return CLI_USAGE;
}

const char *const cli_engines[] = { "auto", "kvm", "tcg", NULL };
const char *const cli_jails[] = { "full", "reduced", NULL };
const char *const cli_publish[] = { "local", "any", "none", NULL };

int cli_one_of(const struct cli_command *cmd, const char *opt, const char *v,
	       const char *const *set, const char **out)
{
	char all[128] = "";

	for (; *set; set++) {
		if (!strcasecmp(v, *set)) {
			*out = *set;
			return 0;
		}
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s", all[0] ? ", " : "",
			 *set);
	}
	return cli_usage(cmd, "--%s is '%s': use one of %s", opt, v, all);
}

void cli_args_init(struct cli_args *a, const struct cli_command *cmd, int argc, char **argv)
{
	*a = (struct cli_args){
		.cmd = cmd, .argv = argv, .argc = argc, .next = 1, .words = argv + 1
	};
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--"))
			continue;
		a->argc = i;
		a->rest = argv + i + 1;
		a->n_rest = argc - i - 1;
		break;
	}
}

static int cli_find_long(const struct cli_command *cmd, const char *name, size_t len)
{
	for (int i = 0; cmd->opts && cmd->opts[i].name; i++) {
		const struct cli_opt *o = &cmd->opts[i];

		if ((strlen(o->name) == len && !strncmp(o->name, name, len)) ||
		    (o->alias && strlen(o->alias) == len && !strncmp(o->alias, name, len)))
			return i;
	}
	return -1;
}

static int cli_find_short(const struct cli_command *cmd, char letter)
{
	for (int i = 0; cmd->opts && cmd->opts[i].name; i++)
		if (letter && strchr(cmd->opts[i].letter, letter))
			return i;
	return -1;
}

static int cli_take_value(struct cli_args *a, int i, const char *given, const char *attached)
{
	if (!a->cmd->opts[i].arg) {
		a->value = NULL;
		return i;
	}
	if (attached) {
		a->value = attached;
		return i;
	}
	if (a->next >= a->argc) {
		cli_usage(a->cmd, "option %s needs a value (%s)", given, a->cmd->opts[i].arg);
		return CLI_OPT_BAD;
	}
	a->value = a->argv[a->next++];
	return i;
}

static int cli_next_long(struct cli_args *a, const char *word)
{
	const char *eq = strchr(word, '=');
	int i = cli_find_long(a->cmd, word + 2, eq ? (size_t)(eq - word - 2) : strlen(word + 2));

	if (i < 0) {
		cli_usage(a->cmd, "unknown option %s", word);
		return CLI_OPT_BAD;
	}
	if (eq && !a->cmd->opts[i].arg) {
		cli_usage(a->cmd, "option --%s takes no value", a->cmd->opts[i].name);
		return CLI_OPT_BAD;
	}
	return cli_take_value(a, i, word, eq ? eq + 1 : NULL);
}

static int cli_next_short(struct cli_args *a)
{
	char given[3] = { '-', *a->cluster, '\0' };
	int i = cli_find_short(a->cmd, *a->cluster);
	const char *attached;

	if (i < 0) {
		cli_usage(a->cmd, "unknown option %s", given);
		return CLI_OPT_BAD;
	}
	a->cluster++;
	attached = *a->cluster ? a->cluster : NULL;
	if (a->cmd->opts[i].arg || !attached)
		a->cluster = NULL;
	return cli_take_value(a, i, given, attached);
}

int cli_args_next(struct cli_args *a)
{
	if (a->cluster)
		return cli_next_short(a);
	while (a->next < a->argc) {
		char *word = a->argv[a->next++];

		if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
			cli_print_help(a->cmd);
			return CLI_OPT_HELP;
		}
		if (!strncmp(word, "--", 2))
			return cli_next_long(a, word);
		if (word[0] == '-' && word[1]) {
			a->cluster = word + 1;
			return cli_next_short(a);
		}
		/* Positional words are gathered at the front, over what was read already. */
		a->words[a->n_words++] = word;
	}
	return CLI_OPT_END;
}

int cli_parse_uint(const char *s, uint64_t max, uint64_t *out)
{
	unsigned long long v;
	char *end;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno || *end || v > max)
		return -EINVAL;
	*out = v;
	return 0;
}

struct cli_unit {
	const char *name;
	double factor;
};

static int cli_parse_scaled(const char *s, const struct cli_unit *units, uint64_t *out)
{
	char *end;
	double v;

	if ((*s < '0' || *s > '9') && *s != '.')
		return -EINVAL;
	errno = 0;
	v = strtod(s, &end);
	if (errno || end == s || !isfinite(v) || strpbrk(s, "xXpPeE"))
		return -EINVAL;
	for (; units->name; units++) {
		if (strcasecmp(end, units->name))
			continue;
		v *= units->factor;
		if (v < 0 || v >= 9e18)
			return -EINVAL;
		*out = (uint64_t)v;
		return 0;
	}
	return -EINVAL;
}

int cli_parse_memory(const char *s, uint64_t *bytes)
{
	static const struct cli_unit units[] = {
		{ "", 1 << 20 },    { "m", 1 << 20 },  { "mb", 1 << 20 },  { "mib", 1 << 20 },
		{ "g", 1 << 30 },   { "gb", 1 << 30 }, { "gib", 1 << 30 }, { "k", 1 << 10 },
		{ "kib", 1 << 10 }, { "b", 1 },        { NULL, 0 },
	};

	return cli_parse_scaled(s, units, bytes);
}

int cli_parse_duration(const char *s, uint64_t *ms)
{
	static const struct cli_unit units[] = {
		{ "", 1000 },       { "s", 1000 },       { "ms", 1 }, { "m", 60000 },
		{ "h", 3600000.0 }, { "d", 86400000.0 }, { NULL, 0 },
	};

	return cli_parse_scaled(s, units, ms);
}

bool cli_is_name(const char *s)
{
	static const char set[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
	size_t n = strlen(s);

	return n && n < 64 && strspn(s, set) == n && *s != '_' && *s != '-';
}

int cli_boot_timeout(const struct cli_command *cmd, const char *v, unsigned *seconds)
{
	uint64_t ms;

	if (cli_parse_duration(v, &ms) || ms < 1000 || ms > 86400000)
		return cli_usage(cmd, "--boot-timeout is '%s': give seconds, from 1 to 86400", v);
	*seconds = (unsigned)((ms + 999) / 1000);
	return 0;
}
