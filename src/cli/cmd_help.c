/* SPDX-License-Identifier: Apache-2.0 */
/* `msb help`, `msb version`, `msb completion`: all from the table of commands. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"

static void help_option(const struct cli_opt *o)
{
	char left[80] = "  ";

	for (const char *l = o->letter; *l; l++)
		snprintf(left + strlen(left), sizeof(left) - strlen(left), "-%c, ", *l);
	snprintf(left + strlen(left), sizeof(left) - strlen(left), "--%s%s%s", o->name,
		 o->arg ? " " : "", o->arg ? o->arg : "");
	if (strlen(left) > 29)
		printf("%s\n%-30s%s\n", left, "", o->help);
	else
		printf("%-30s%s\n", left, o->help);
}

void cli_print_help(const struct cli_command *cmd)
{
	printf("Usage: msb %s %s\n\n%s.\n", cmd->name, cmd->args, cmd->summary);
	if (cmd->details)
		printf("\n%s", cmd->details);
	if (!cmd->opts)
		return;
	printf("\nOptions:\n");
	for (const struct cli_opt *o = cmd->opts; o->name; o++)
		help_option(o);
	printf("%-30s%s\n", "  -h, --help", "this text");
}

int cmd_help(const struct cli_command *cmd, int argc, char **argv)
{
	if (argc > 1) {
		const struct cli_command *c = cli_find_command(argv[1]);

		if (!c)
			return cli_usage(cmd, "unknown command '%s'", argv[1]);
		cli_print_help(c);
		return CLI_OK;
	}
	printf("microsandbox " MSB_VERSION ": a fresh machine for code that nobody trusts\n\n"
	       "Usage: msb COMMAND [OPTIONS]\n       msx IMAGE [OPTIONS] [-- "
	       "ARGS...]\n\nCommands:\n");
	for (const struct cli_command *c = cli_commands; c->name; c++)
		if (!c->hidden)
			printf("  %-12s%s%s%s%s\n", c->name, c->summary,
			       c->alias ? " (short: " : "", c->alias ? c->alias : "",
			       c->alias ? ")" : "");
	printf("\nDetails: msb help COMMAND. Try: msx python -- -c 'print(\"hello\")'\n");
	return CLI_OK;
}

int cmd_version(const struct cli_command *cmd, int argc, char **argv)
{
	struct cli_args a;
	int opt;

	cli_args_init(&a, cmd, argc, argv);
	if ((opt = cli_args_next(&a)) != CLI_OPT_END)
		return cli_args_status(opt);
	printf("v" MSB_VERSION "\n");
	return CLI_OK;
}

static void completion_words(const struct cli_command *c)
{
	for (const struct cli_opt *o = c->opts; o && o->name; o++)
		printf(" --%s", o->name);
	printf(" --help");
}

/*
 * Prints @before, the verbs that a command's usage begins with ("create|ls|rm [NAME...]") and
 * @after; nothing for a command without.
 */
static void completion_verbs(const struct cli_command *c, const char *before, const char *after)
{
	size_t n = c->args ? strspn(c->args, "abcdefghijklmnopqrstuvwxyz-|") : 0;

	if (!n || (c->args[n] && c->args[n] != ' ') || !memchr(c->args, '|', n))
		return;
	fputs(before, stdout);
	for (size_t i = 0; i < n; i++)
		putchar(c->args[i] == '|' ? ' ' : c->args[i]);
	fputs(after, stdout);
}

/*
 * Options anywhere, verbs as the first word of a command, names of volumes where one is meant.
 * The part that follows the table.
 */
static const char completion_bash_end[] =
	"\tesac\n"
	"\tfor ((i = 2; i < COMP_CWORD; i++)); do\n"
	"\t\t[[ ${COMP_WORDS[i]} == -n || ${COMP_WORDS[i]} == --namespace ]] && "
	"ns=(-n \"${COMP_WORDS[i + 1]}\")\n"
	"\tdone\n"
	"\tif [[ $cmd == exe || $cmd == x ]] && [[ $last == -v || $last == --volume ]]; then\n"
	"\t\tcompopt -o nospace 2>/dev/null\n"
	"\t\tCOMPREPLY=($(compgen -S : -W \"$($msb volume ls -q 2>/dev/null)\" -- \"$cur\")"
	" $(compgen -f -- \"$cur\"))\n"
	"\telif [[ $cur != -* && $cmd =~ "
	"^(run|r|shell|exec|up|down|restart|status|ps|stats|inspect|cp|log|clean)$ ]]; then\n"
	"\t\tCOMPREPLY=($(compgen -W \"$($msb list -q 2>/dev/null)\" -- \"$cur\"))\n"
	"\telif [[ $cur == -* ]]; then\n"
	"\t\tCOMPREPLY=($(compgen -W \"$opts\" -- \"$cur\"))\n"
	"\telif [[ $verbs ]] && ((COMP_CWORD == 2)); then\n"
	"\t\tCOMPREPLY=($(compgen -W \"$verbs\" -- \"$cur\"))\n"
	"\telif [[ $cmd == volume && ${COMP_WORDS[2]} == @(rm|inspect) ]]; then\n"
	"\t\tCOMPREPLY=($(compgen -W \"$($msb volume ls -q \"${ns[@]}\" 2>/dev/null)\" -- "
	"\"$cur\"))\n"
	"\telif [[ ! $verbs && ${COMP_WORDS[0]##*/} != ms[xri] ]]; then\n"
	"\t\tCOMPREPLY=($(compgen -W \"$opts\" -- \"$cur\"))\n"
	"\tfi\n}\n"
	"complete -o default -F _msb msb msx msr msi\n";

static void completion_bash(void)
{
	printf("_msb() {\n"
	       "\tlocal cur=${COMP_WORDS[COMP_CWORD]} last=${COMP_WORDS[COMP_CWORD - 1]}\n"
	       "\tlocal cmd=${COMP_WORDS[1]} msb=msb i opts= verbs= ns=()\n"
	       "\t[[ ${COMP_WORDS[0]} == */* ]] && msb=${COMP_WORDS[0]%%/*}/msb\n"
	       "\tlocal prog=${COMP_WORDS[0]##*/}\n"
	       "\tcase $prog in msx) cmd=exe ;; msr) cmd=run ;; msi) cmd=install ;; esac\n"
	       "\tif [[ $prog != ms[xri] ]] && ((COMP_CWORD == 1)); then\n"
	       "\t\tCOMPREPLY=($(compgen -W '");
	for (const struct cli_command *c = cli_commands; c->name; c++)
		if (!c->hidden)
			printf("%s ", c->name);
	printf("' -- \"$cur\"))\n\t\treturn\n\tfi\n\tcase $cmd in\n");
	for (const struct cli_command *c = cli_commands; c->name; c++) {
		if (c->hidden)
			continue;
		printf("\t%s%s%s) opts='", c->name, c->alias ? "|" : "", c->alias ? c->alias : "");
		completion_words(c);
		putchar('\'');
		completion_verbs(c, " verbs='", "'");
		printf(" ;;\n");
	}
	fputs(completion_bash_end, stdout);
}

static void completion_zsh(void)
{
	printf("#compdef msb msx msr msi\nautoload -U +X bashcompinit && bashcompinit\n");
	completion_bash();
}

/* In single quotes, as fish reads them. */
static void completion_fish_text(const char *s)
{
	putchar('\'');
	for (; *s; s++)
		printf("%s%c", *s == '\'' || *s == '\\' ? "\\" : "", *s);
	putchar('\'');
}

static void completion_fish_options(const struct cli_command *c)
{
	/* Commands that are programs, too. */
	static const char *const programs[][2] = { { "exe", "msx" },
						   { "run", "msr" },
						   { "install", "msi" } };

	for (const struct cli_opt *o = c->opts; o && o->name; o++) {
		printf("complete -c msb -n '__fish_seen_subcommand_from %s' -l %s %s\n", c->name,
		       o->name, o->arg ? "-r" : "");
		for (size_t i = 0; i < ARRAY_SIZE(programs); i++)
			if (!strcmp(c->name, programs[i][0]))
				printf("complete -c %s -l %s %s\n", programs[i][1], o->name,
				       o->arg ? "-r" : "");
	}
}

static void completion_fish(void)
{
	printf("complete -c msb -n '__fish_seen_subcommand_from run shell exec up down restart "
	       "status stats inspect cp log clean' -f -a '(msb list -q 2>/dev/null)'\n"
	       "complete -c msr -f -a '(msb list -q 2>/dev/null)'\n");
	char when[160];

	for (const struct cli_command *c = cli_commands; c->name; c++) {
		if (c->hidden)
			continue;
		printf("complete -c msb -n __fish_use_subcommand -f -a %s -d ", c->name);
		completion_fish_text(c->summary);
		putchar('\n');
		snprintf(when, sizeof(when),
			 "complete -c msb -n '__fish_seen_subcommand_from %s; and test (count "
			 "(commandline -opc)) -eq 2' -a '",
			 c->name);
		completion_verbs(c, when, "'\n");
		completion_fish_options(c);
	}
	printf("complete -c msb -n '__fish_seen_subcommand_from volume; and "
	       "__fish_seen_subcommand_from rm inspect' -f -a '(msb volume ls -q)'\n");
}

int cmd_completion(const struct cli_command *cmd, int argc, char **argv)
{
	struct cli_args a;
	int opt;

	cli_args_init(&a, cmd, argc, argv);
	if ((opt = cli_args_next(&a)) != CLI_OPT_END)
		return cli_args_status(opt);
	if (a.n_words != 1)
		return cli_usage(cmd, "which shell? bash, zsh or fish");
	if (!strcmp(a.words[0], "bash"))
		completion_bash();
	else if (!strcmp(a.words[0], "zsh"))
		completion_zsh();
	else if (!strcmp(a.words[0], "fish"))
		completion_fish();
	else
		return cli_usage(cmd, "no completion for '%s': bash, zsh or fish", a.words[0]);
	return CLI_OK;
}
