/* SPDX-License-Identifier: Apache-2.0 */
/* A key that is added here is known to the parser, the JSON Schema and the documentation. */
#include "codec/sandboxfile_keys.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/mem.h"
#include "codec/reference.h"
#include "codec/sandboxfile_internal.h"
#include "codec/secret.h"

#define KEYS_MEMORY_MIN (128ull << 20)
#define KEYS_MEMORY_MAX (1024ull << 30)
#define KEYS_DISK_MIN (16ull << 20)
#define KEYS_DISK_MAX (16ull << 40)
#define KEYS_CPUS_MAX 16u
#define KEYS_TIME_MAX (365ull * 86400 * 1000)
#define KEYS_TEXT_MAX 4095u

#define AT(m) offsetof(struct sandboxfile_sandbox, m)

static int keys_build(void *owner, const char *text, struct ytree_at at, struct err *e);

int sandboxfile_check_build(const char *name, struct err *e)
{
	return keys_build(NULL, name, (struct ytree_at){ 0, 0 }, e);
}

bool sandboxfile_name_valid(const char *name)
{
	static const char set[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
	size_t n = strlen(name);

	return n && n <= SANDBOXFILE_NAME_MAX && strspn(name, set) == n && *name != '_' &&
	       *name != '-';
}

/* ---- what the texts have to be ---- */

/* What is shown to people, and may come from anywhere, steers no terminal. */
static int keys_printable(const char *text, struct err *e)
{
	const unsigned char *p = (const unsigned char *)text;

	for (; *p; p++)
		if (*p < ' ' || *p == 0x7f || (p[0] == 0xc2 && p[1] < 0xa0))
			return err_set(e, EINVAL, "it has control characters");
	return 0;
}

static int keys_not_empty(void *owner, const char *text, struct ytree_at at, struct err *e)
{
	(void)owner;
	(void)at;
	return *text ? keys_printable(text, e) : err_set(e, EINVAL, "it is empty");
}

static int keys_image(void *owner, const char *text, struct ytree_at at, struct err *e)
{
	struct reference ref;

	(void)owner;
	(void)at;
	if (text[0] == '.' || text[0] == '/')
		return err_set(
			e, EINVAL,
			"'%.200s' is a path: make an image of it with `msb image import` and "
			"give its name",
			text);
	return reference_parse(text, strlen(text), &ref, e);
}

static int keys_build(void *owner, const char *text, struct ytree_at at, struct err *e)
{
	(void)owner;
	(void)at;
	/* The name of the image has it. */
	if (!*text || strlen(text) > SANDBOXFILE_NAME_MAX ||
	    strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(text) || *text == '-' ||
	    text[strlen(text) - 1] == '-' || strstr(text, "--"))
		return err_set(e, EINVAL,
			       "'%.80s' is not a name for a build: use lower-case letters, digits "
			       "and single '-'",
			       text);
	return 0;
}

static int keys_group(void *owner, const char *text, struct ytree_at at, struct err *e)
{
	struct sandboxfile_sandbox *s = owner;

	if (!sandboxfile_name_valid(text))
		return err_set(e, EINVAL, "'%.80s' is not the name of a group", text);
	s->group_at = at;
	return 0;
}

/* semver.org, items 2, 9 and 10. */
static int keys_version(void *owner, const char *text, struct ytree_at at, struct err *e)
{
	static const char digits[] = "0123456789";
	const char *p = text;

	(void)owner;
	(void)at;
	for (unsigned i = 0; i < 3; i++) {
		size_t n = strspn(p, digits);

		if (!n || n > 18 || (n > 1 && *p == '0') || (i < 2 && p[n] != '.'))
			return err_set(e, EINVAL, "'%.80s' is not a version such as 1.0.0", text);
		p += n + (i < 2);
	}
	while (*p == '-' || *p == '+') {
		size_t n =
			strspn(p + 1,
			       "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-");

		if (!n || (*p == '+' && p[n + 1]))
			break;
		p += n + 1;
	}
	return *p ? err_set(e, EINVAL, "'%.80s' is not a version such as 1.0.0-rc.1", text) : 0;
}

static int keys_absolute(void *owner, const char *text, struct ytree_at at, struct err *e)
{
	(void)owner;
	(void)at;
	if (text[0] != '/' || strlen(text) > KEYS_TEXT_MAX)
		return err_set(e, EINVAL, "'%.200s' is not an absolute path in the sandbox", text);
	return keys_printable(text, e);
}

static int keys_volume_add(struct sandboxfile_sandbox *s, const char *text, bool tmpfs,
			   struct ytree_at at, struct err *e)
{
	struct volume v;
	unsigned n = s->volumes.n;
	int rc = keys_printable(text, e);

	if (!rc)
		rc = volume_parse(text, tmpfs, &v, e);
	if (!rc)
		rc = volume_list_add(&s->volumes, &v, e);
	if (!rc)
		s->volume_at[n] = at;
	return rc;
}

static int keys_volume(void *owner, const char *text, struct ytree_at at, struct err *e)
{
	return keys_volume_add(owner, text, false, at, e);
}

static int keys_tmpfs(void *owner, const char *text, struct ytree_at at, struct err *e)
{
	return keys_volume_add(owner, text, true, at, e);
}

static int keys_port(void *owner, const char *text, struct ytree_at at, struct err *e)
{
	struct sandboxfile_sandbox *s = owner;
	size_t n = s->ports.n;
	int rc = publish_add(&s->ports, text, e);

	for (; !rc && n < s->ports.n; n++)
		s->port_at[n] = at;
	return rc;
}

static int keys_env(void *owner, const char *text, struct ytree_at at, struct err *e)
{
	const char *eq = strchr(text, '=');

	(void)owner;
	(void)at;
	if (!eq || eq == text)
		return err_set(e, EINVAL, "'%.80s' is not NAME=value", text);
	return 0;
}

static int keys_path(void *owner, const char *text, struct ytree_at at, struct err *e)
{
	(void)owner;
	(void)at;
	if (!*text || strlen(text) > KEYS_TEXT_MAX)
		return err_set(e, EINVAL, "'%.80s' is not a path", text);
	return keys_printable(text, e);
}

static int keys_sandbox(void *owner, const char *text, struct ytree_at at, struct err *e)
{
	const struct sandboxfile_sandbox *s = owner;

	(void)at;
	if (!sandboxfile_name_valid(text))
		return err_set(e, EINVAL, "'%.80s' is not the name of a sandbox", text);
	if (!strcmp(text, s->name))
		return err_set(e, EINVAL, "'%s' cannot depend on itself", text);
	return 0;
}

/* What is wrong is said without the text, which somebody may have put a value in. */
static int keys_secret(void *owner, const char *text, struct ytree_at at, struct err *e)
{
	struct secret_source from;
	struct secret s = { .value = NULL };
	int rc = keys_printable(text, e);

	(void)owner;
	(void)at;
	if (!rc)
		rc = secret_parse(text, &s, &from, e);
	secret_fini(&s);
	return rc;
}

static int keys_script(void *owner, const char *text, struct ytree_at at, struct err *e)
{
	static const char set[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.";

	(void)owner;
	(void)at;
	if (!strcmp(text, "shell"))
		return err_set(e, EINVAL,
			       "a script cannot be called 'shell': that name runs the sandbox's "
			       "shell");
	if (!*text || strlen(text) > SANDBOXFILE_NAME_MAX || strspn(text, set) != strlen(text) ||
	    *text == '.' || *text == '-')
		return err_set(e, EINVAL,
			       "'%.80s' is not a name for a script: use letters, digits, '-', '_' "
			       "and '.'",
			       text);
	return 0;
}

/* ---- the table ---- */

static const char *const keys_scopes[] = { "none", "group", "public", "any", NULL };
static const char *const keys_build_scopes[] = { "none", "public", "any", NULL };
static const char *const keys_restarts[] = { "no", "on-failure", "always", NULL };

#define KEYS_LATER "not supported yet"

static const struct sandboxfile_key keys_meta[] = {
	{ "authors", SANDBOXFILE_LIST, offsetof(struct sandboxfile_meta, authors),
	  .help = "Who wrote it.", .example = "[\"Ada <ada@example.org>\"]" },
	{ "description", SANDBOXFILE_TEXT, offsetof(struct sandboxfile_meta, description),
	  .help = "What it is for.", .example = "a web server" },
	{ "homepage", SANDBOXFILE_TEXT, offsetof(struct sandboxfile_meta, homepage),
	  .help = "Its address in the web.", .example = "https://example.org" },
	{ "repository", SANDBOXFILE_TEXT, offsetof(struct sandboxfile_meta, repository),
	  .help = "Where its source is.", .example = "https://example.org/source.git" },
	{ "readme", SANDBOXFILE_TEXT, offsetof(struct sandboxfile_meta, readme),
	  .help = "A file that explains it.", .example = "./README.md" },
	{ "tags", SANDBOXFILE_LIST, offsetof(struct sandboxfile_meta, tags),
	  .help = "Words to find it by.", .example = "[web, python]" },
	{ "icon", SANDBOXFILE_TEXT, offsetof(struct sandboxfile_meta, icon),
	  .help = "A picture of it.", .example = "./icon.svg" },
	{ NULL },
};

const struct sandboxfile_key sandboxfile_sandbox_keys[] = {
	{ "image", SANDBOXFILE_TEXT, AT(image), .take = keys_image, .required = true,
	  .help = "The image that it starts from, a name in the store or of a recipe; has to be "
		  "there, or `build`.",
	  .example = "python" },
	{ "build", SANDBOXFILE_TEXT, AT(build), .take = keys_build, .required = true,
	  .help = "Instead of `image`: the build of this file that makes it.", .example = "tools" },
	{ "version", SANDBOXFILE_TEXT, AT(version), .take = keys_version,
	  .help = "The sandbox's own version, by the rules of semver.org; for people.",
	  .example = "1.0.0" },
	{ "meta", SANDBOXFILE_OBJECT, AT(meta), .keys = keys_meta,
	  .help = "What people want to know about it; nothing depends on it." },
	{ "memory", SANDBOXFILE_SIZE, AT(memory_bytes), KEYS_MEMORY_MIN, KEYS_MEMORY_MAX,
	  .help = "Memory, in MiB or with a unit; at least 128 MiB.", .example = "1024" },
	{ "cpus", SANDBOXFILE_NUMBER, AT(cpus), 1, KEYS_CPUS_MAX, .help = "Virtual CPUs.",
	  .example = "2" },
	{ "disk", SANDBOXFILE_SIZE, AT(disk_bytes), KEYS_DISK_MIN, KEYS_DISK_MAX,
	  .help = "Room for what the sandbox writes, in MiB or with a unit; at least 16 MiB.",
	  .example = "4G" },
	{ "shell", SANDBOXFILE_TEXT, AT(shell), .take = keys_absolute,
	  .help = "What runs the scripts, and what runs if there is nothing else to run.",
	  .example = "/bin/bash" },
	{ "volumes", SANDBOXFILE_LIST, .take = keys_volume, .taken = true,
	  .help = "Directories and files of the host, HOST:GUEST[:ro], or named volumes; HOST is "
		  "relative to the Sandboxfile.",
	  .example = "[\"./src:/src:ro\", \"cache:/root/.cache\"]" },
	{ "tmpfs", SANDBOXFILE_LIST, .take = keys_tmpfs, .taken = true,
	  .help = "Empty directories in the sandbox's memory, PATH[:size=SIZE].",
	  .example = "[\"/scratch:size=64M\"]" },
	{ "ports", SANDBOXFILE_LIST, .take = keys_port, .taken = true,
	  .help = "Published ports, [ADDRESS:]HOST:GUEST[/udp] or PORT; without ADDRESS on "
		  "127.0.0.1.",
	  .example = "[\"8080:80\"]" },
	{ "envs", SANDBOXFILE_PAIRS, AT(envs), .take = keys_env,
	  .help = "Environment variables: a list of NAME=value, or a mapping.",
	  .example = "[DEBUG=1]" },
	{ "env_file", SANDBOXFILE_LIST_OR_TEXT, AT(env_file), .take = keys_path,
	  .help = "Files with a NAME=value on each line; envs wins over them.",
	  .example = "./.env" },
	{ "depends_on", SANDBOXFILE_DEPENDS, AT(depends_on), 1, 65535, .take = keys_sandbox,
	  .help = "Sandboxes that are started before this one; with a port it is waited until "
		  "a program listens there.",
	  .example = "{db: {port: 5432}}" },
	{ "workdir", SANDBOXFILE_TEXT, AT(workdir), .take = keys_absolute,
	  .help = "The directory to start in; else the image's.", .example = "/app" },
	{ "user", SANDBOXFILE_TEXT, AT(user), .take = keys_not_empty,
	  .help = "Who runs it: a name or number, with a group behind a colon if wanted; else the "
		  "image's user.",
	  .example = "\"1000:1000\"" },
	{ "scripts", SANDBOXFILE_MAP, AT(scripts), .take = keys_script,
	  .help = "Scripts by name, run by the shell; `start` is what runs without a name.",
	  .example = "{start: python app.py}" },
	{ "command", SANDBOXFILE_LIST, AT(command),
	  .help = "Program and arguments that run where there is no script `start`; else the "
		  "image's.",
	  .example = "[python, -m, http.server]" },
	{ "scope", SANDBOXFILE_TEXT, AT(scope), .values = keys_scopes,
	  .help = "What the network reaches: nothing, the sandboxes of `group`, the internet, or "
		  "private networks too.",
	  .example = "public" },
	{ "network", SANDBOXFILE_NETWORK, AT(network),
	  .help = "Rules of the network, the first that matches decides, defaults and limits.",
	  .example = "[\"allow tcp example.org:443\", \"default deny\"]" },
	{ "timeout", SANDBOXFILE_TIME, AT(timeout_ms), 1, KEYS_TIME_MAX,
	  .help = "The longest time of a run, in seconds or with a unit; then its command is "
		  "killed.",
	  .example = "10m" },
	{ "idle_timeout", SANDBOXFILE_TIME, AT(idle_timeout_ms), 1000, KEYS_TIME_MAX,
	  .help = "Stop the sandbox after so long without any use.", .example = "30m",
	  .refused = KEYS_LATER },
	{ "max_lifetime", SANDBOXFILE_TIME, AT(max_lifetime_ms), 1000, KEYS_TIME_MAX,
	  .help = "Stop the sandbox after so long.", .example = "8h", .refused = KEYS_LATER },
	{ "restart", SANDBOXFILE_TEXT, AT(restart), .values = keys_restarts,
	  .help = "Whether it is started again when its command ended.", .example = "on-failure",
	  .refused = KEYS_LATER },
	{ "health", SANDBOXFILE_LIST, AT(health),
	  .help = "A command that says by its status whether the sandbox is well.",
	  .example = "[curl, -f, \"http://localhost/\"]", .refused = KEYS_LATER },
	{ "health_interval", SANDBOXFILE_TIME, AT(health_interval_ms), 1000, KEYS_TIME_MAX,
	  .help = "How often `health` is asked.", .example = "30s", .refused = KEYS_LATER },
	{ "group", SANDBOXFILE_TEXT, AT(group), .take = keys_group,
	  .help = "The group whose sandboxes, of this project, reach each other by name; the "
		  "scope is then `group`.",
	  .example = "backend" },
	{ "groups", SANDBOXFILE_MAP, .help = "The groups it belongs to.",
	  .refused = "not supported: a sandbox is in one group, which `group` names" },
	{ "secrets", SANDBOXFILE_SECRETS, AT(secrets), .take = keys_secret,
	  .help = "Secrets that the network puts in for placeholders, towards their hosts only: "
		  "by name where the value is (env, a variable of who starts it, or file) and "
		  "the hosts; or a list as for --secret.",
	  .example = "{API_KEY: {env: MY_KEY, hosts: [api.example.org]}}" },
	{ "imports", SANDBOXFILE_MAP, .help = "Files of other sandboxes.",
	  .refused = "not supported: share a named volume or a directory by `volumes`" },
	{ "exports", SANDBOXFILE_MAP, .help = "Files for other sandboxes.",
	  .refused = "not supported: share a named volume or a directory by `volumes`" },
	{ NULL },
};

#define KEYS_NOT_BUILT "not supported in a build: give it to the sandbox"

const struct sandboxfile_key sandboxfile_build_keys[] = {
	{ "image", SANDBOXFILE_TEXT, AT(image), .take = keys_image, .required = true,
	  .help = "The image that the steps begin with; has to be there, or `build`.",
	  .example = "python" },
	{ "build", SANDBOXFILE_TEXT, AT(build), .take = keys_build, .required = true,
	  .help = "Instead of `image`: another build of this file.", .example = "base" },
	{ "steps", SANDBOXFILE_STEPS, AT(steps),
	  .help = "What is run, each by the shell as root, one after the other; a list, or a "
		  "mapping.",
	  .example = "[pip install flask]" },
	{ "shell", SANDBOXFILE_TEXT, AT(shell), .take = keys_absolute,
	  .help = "What runs the steps; else /bin/sh.", .example = "/bin/bash" },
	{ "envs", SANDBOXFILE_PAIRS, AT(envs), .take = keys_env,
	  .help = "Environment variables, of the steps and of the image that is made.",
	  .example = "[DEBIAN_FRONTEND=noninteractive]" },
	{ "workdir", SANDBOXFILE_TEXT, AT(workdir), .take = keys_absolute,
	  .help = "The directory of the steps and of the image that is made; has to be there.",
	  .example = "/root" },
	{ "memory", SANDBOXFILE_SIZE, AT(memory_bytes), KEYS_MEMORY_MIN, KEYS_MEMORY_MAX,
	  .help = "Memory while the steps run.", .example = "1024" },
	{ "cpus", SANDBOXFILE_NUMBER, AT(cpus), 1, KEYS_CPUS_MAX,
	  .help = "Virtual CPUs while the steps run.", .example = "2" },
	{ "disk", SANDBOXFILE_SIZE, AT(disk_bytes), KEYS_DISK_MIN, KEYS_DISK_MAX,
	  .help = "Room for what the steps write.", .example = "4G" },
	{ "scope", SANDBOXFILE_TEXT, AT(scope), .values = keys_build_scopes,
	  .help = "What the network reaches while the steps run.", .example = "public" },
	{ "network", SANDBOXFILE_NETWORK, AT(network),
	  .help = "Rules of the network while the steps run.",
	  .example = "[\"allow tcp pypi.org:443\", \"default deny\"]" },
	{ "timeout", SANDBOXFILE_TIME, AT(timeout_ms), 1, KEYS_TIME_MAX,
	  .help = "The longest time of all steps together.", .example = "30m" },
	{ "volumes", SANDBOXFILE_LIST, .help = "Files of the host.", .refused = KEYS_NOT_BUILT },
	{ "ports", SANDBOXFILE_LIST, .help = "Published ports.", .refused = KEYS_NOT_BUILT },
	{ "command", SANDBOXFILE_LIST, .help = "What runs.", .refused = KEYS_NOT_BUILT },
	{ "depends_on", SANDBOXFILE_LIST, .help = "What is made before.",
	  .refused = "not supported in a build: `build` names the one that it stands on" },
	{ "imports", SANDBOXFILE_MAP, .help = "Files of the host.",
	  .refused = "not supported: fetch them in a step" },
	{ "exports", SANDBOXFILE_MAP, .help = "Files for others.",
	  .refused = "not supported: the image that is made has them" },
	{ NULL },
};

#define AT_GROUP(m) offsetof(struct sandboxfile_group, m)

const struct sandboxfile_key sandboxfile_group_keys[] = {
	{ "version", SANDBOXFILE_TEXT, AT_GROUP(version), .take = keys_version,
	  .help = "The group's own version, by the rules of semver.org; for people.",
	  .example = "1.0.0" },
	{ "meta", SANDBOXFILE_OBJECT, AT_GROUP(meta), .keys = keys_meta,
	  .help = "What people want to know about it; nothing depends on it." },
	{ "network", SANDBOXFILE_MAP, .help = "Its addresses.",
	  .refused = "not supported: members find each other by name, whatever their addresses" },
	{ "volumes", SANDBOXFILE_MAP, .help = "Files that its sandboxes share.",
	  .refused = "not supported: give the sandboxes the same `volumes`" },
	{ NULL },
};

const struct sandboxfile_key sandboxfile_top_keys[] = {
	{ "sandboxes", SANDBOXFILE_SANDBOXES, .help = "The sandboxes, by name." },
	{ "meta", SANDBOXFILE_OBJECT, offsetof(struct sandboxfile, meta), .keys = keys_meta,
	  .help = "What people want to know about the project; nothing depends on it." },
	{ "modules", SANDBOXFILE_MAP, .help = "Sandboxes of other files.",
	  .refused = "not supported: copy the sandbox, or use that file with -f" },
	{ "builds", SANDBOXFILE_BUILDS,
	  .help = "Images that are made by running steps, by name; `msb build` makes them." },
	{ "groups", SANDBOXFILE_GROUPS,
	  .help = "The groups that `group` of a sandbox may name, with what people want to know "
		  "about them; without it, every name is a group.",
	  .example = "{backend: }" },
	{ NULL },
};

/* ---- looking ---- */

const char *sandboxfile_synonym(const char *word)
{
	static const struct {
		const char *word, *key;
	} known[] = {
		{ "env", "envs" },
		{ "environment", "envs" },
		{ "environments", "envs" },
		{ "envfile", "env_file" },
		{ "mem", "memory" },
		{ "ram", "memory" },
		{ "mem_limit", "memory" },
		{ "vcpus", "cpus" },
		{ "cores", "cpus" },
		{ "mounts", "volumes" },
		{ "publish", "ports" },
		{ "expose", "ports" },
		{ "working_dir", "workdir" },
		{ "cwd", "workdir" },
		{ "dir", "workdir" },
		{ "cmd", "command" },
		{ "entrypoint", "command" },
		{ "exec", "command" },
		{ "args", "command" },
		{ "needs", "depends_on" },
		{ "requires", "depends_on" },
		{ "services", "sandboxes" },
		{ "containers", "sandboxes" },
		{ "networks", "network" },
		{ "healthcheck", "health" },
		{ "storage", "disk" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (!strcasecmp(known[i].word, word))
			return known[i].key;
	return NULL;
}

const struct sandboxfile_key *sandboxfile_key_find(const struct sandboxfile_key *keys,
						   const char *name)
{
	for (; keys->name; keys++)
		if (!strcmp(keys->name, name))
			return keys;
	return NULL;
}

bool sandboxfile_key_is_extension(const char *name)
{
	return !strncmp(name, "x-", 2);
}
