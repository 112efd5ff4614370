/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the server knows about a sandbox besides its supervisor: server.json in the
 * sandbox's directory, from which a later server learns it, and SandboxInfo of the API.
 *
 * server.json holds the environment, which may have secrets in it: it is the user's alone.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "codec/netrule.h"
#include "lib/groups.h"
#include "lib/imageconfig.h"
#include "lib/volumes.h"
#include "server/box.h"
#include "sys/file.h"
#include "sys/parts.h"

#define BOX_MEMORY_MIB 512
#define BOX_DISK_BYTES (4ull << 30)
#define BOX_BOOT_TIMEOUT_S 120u
#define BOX_META_MAX (4u << 20)
#define BOX_SECONDS_MAX 1e9 /* some clients send absurd numbers and mean "long" */

char *box_parent(const struct box *b)
{
	char *p;

	return asprintf(&p, "%s/%s/menv", b->server->path, b->ns) < 0 ? NULL : p;
}

/* ---- how it is started ------------------------------------------------------------------- */

uint64_t box_config_memory(json_t *config)
{
	double mib = BOX_MEMORY_MIB;

	rpc_number(config, "memory", &mib);
	return (uint64_t)mib;
}

uint64_t box_config_idle(json_t *config)
{
	double s = 0;

	rpc_number(config, "idle_timeout", &s);
	if (!(s > 0)) /* also what is no number */
		return 0;
	return s > BOX_SECONDS_MAX ? (uint64_t)BOX_SECONDS_MAX * 1000 : (uint64_t)ceil(s * 1000);
}

static int box_strdup(char **to, const char *s, struct err *e)
{
	*to = strdup(s);
	return *to ? 0 : err_errno(e, ENOMEM, "sandbox configuration");
}

/*
 * Metadata services hand out the credentials of the server's machine: no client may open them.
 */
int box_network_text(json_t *rules, const char *what, char **out, struct err *e)
{
	auto_free struct netpolicy *p = calloc(1, sizeof(*p));
	struct buf text = BUF_INIT;
	json_t *v;
	size_t i;
	int rc = p ? 0 : err_errno(e, ENOMEM, "network policy");

	json_array_foreach(rules, i, v)
	{
		if (!rc && netpolicy_add(p, json_string_value(v), json_string_length(v), e)) {
			err_wrap(e, "%s[%zu]", what, i);
			rc = -EINVAL;
		}
	}
	if (!rc && netpolicy_opens_metadata(p))
		rc = err_set(e, EINVAL, "%s: metadata services are the server's: not opened", what);
	if (!rc && netpolicy_format(p, &text))
		rc = err_errno(e, ENOMEM, "network policy");
	if (!rc) {
		*out = strndup(buf_len(&text) ? (const char *)buf_data(&text) : "", buf_len(&text));
		rc = *out ? 0 : err_errno(e, ENOMEM, "network policy");
	}
	buf_fini(&text);
	return rc;
}

json_t *box_network_lines(const char *text, size_t len)
{
	json_t *lines = json_array();
	const char *end = text + len;

	while (lines && text < end) {
		const char *nl = memchr(text, '\n', (size_t)(end - text));
		const char *stop = nl ? nl : end;

		if (stop > text)
			json_array_append_new(lines, json_stringn(text, (size_t)(stop - text)));
		text = stop + 1;
	}
	return lines;
}

static int box_make_network(struct box *b, struct err *e)
{
	return box_network_text(json_object_get(b->config, "network"), "network", &b->cfg.network,
				e);
}

/* What may be published here is the server's to say: its machine is not the client's. */
static int box_check_port(const struct box *b, const struct publish *p, struct err *e)
{
	const char *may = b->server->opt->publish;
	char addr[PUBLISH_TEXT_MAX];

	if (!strcmp(may, "none"))
		return err_set(e, EINVAL, "this server publishes no ports (--publish none)");
	if (!strcmp(may, "any") || publish_is_local(p))
		return 0;
	publish_format_addr(p, addr);
	return err_set(e, EINVAL,
		       "this server publishes ports on its own loopback only, and %s is not of it: "
		       "start it with --publish any to allow this",
		       addr);
}

static int box_read_ports(struct box *b, struct err *e)
{
	struct publish_list *l = &b->cfg.ports;
	json_t *v;
	size_t i;
	int rc = 0;

	json_array_foreach(json_object_get(b->config, "ports"), i, v) if (!rc) rc =
		publish_add(l, json_string_value(v), e);
	for (size_t n = 0; !rc && n < l->n; n++)
		rc = box_check_port(b, &l->v[n], e);
	if (!rc && l->n && !strcmp(b->cfg.scope, "none"))
		rc = err_set(e, EINVAL,
			     "ports cannot be published with scope none: nothing comes in or "
			     "goes out");
	return rc;
}

/*
 * The ports that were chosen are in its config.json, which is written when they are bound, and
 * so are the rules of its network, which may have been changed by others than this server.
 */
int box_read_running(struct box *b, int dirfd, struct err *e)
{
	struct sandbox_config cfg = { .name = NULL };
	auto_free char *text = NULL;
	size_t len;
	int rc = file_read_at(dirfd, SANDBOX_CONFIG_FILE, SANDBOX_CONFIG_MAX, &text, &len, e);

	if (!rc)
		rc = sandbox_config_parse(text, len, &cfg, e);
	if (rc)
		return rc;
	b->cfg.ports = cfg.ports;
	free(b->cfg.network);
	b->cfg.network = take_ptr(&cfg.network);
	sandbox_config_fini(&cfg);
	return 0;
}

json_t *box_port_texts(const struct box *b)
{
	char text[PUBLISH_TEXT_MAX];
	json_t *a = json_array();

	for (size_t i = 0; a && i < b->cfg.ports.n; i++) {
		publish_format(&b->cfg.ports.v[i], text);
		json_array_append_new(a, json_string(text));
	}
	return a;
}

/*
 * config.secrets.  The values stay in memory, for a restart: box_config_noted() leaves them out of
 * what is written.
 */
static int box_make_secret(struct box *b, json_t *j, struct err *e)
{
	json_t *hosts = json_object_get(j, "hosts"), *v = json_object_get(j, "value"), *h;
	const char *name = rpc_string(j, "name");
	struct secret s = { .value = NULL };
	size_t i;
	int rc = secret_set_name(&s, name, strlen(name), e);

	json_array_foreach(hosts, i, h) if (!rc) rc =
		secret_add_host(&s, json_string_value(h), json_string_length(h), e);
	if (!rc && !s.n_hosts)
		rc = err_set(e, EINVAL, "secret %s has no hosts", name);
	if (!rc && !v)
		rc = err_set(e, EINVAL,
			     "the value of secret %s is not known: this server did not start the "
			     "sandbox; stop it, and start it with its secrets",
			     name);
	if (!rc)
		rc = secret_set_value(&s, json_string_value(v), json_string_length(v), e);
	if (!rc)
		return secret_list_add(&b->cfg.secrets, &s, e);
	secret_fini(&s);
	return rc;
}

static int box_make_secrets(struct box *b, struct err *e)
{
	auto_free struct netpolicy *p = calloc(1, sizeof(*p));
	json_t *list = json_object_get(b->config, "secrets"), *v;
	size_t i;
	int rc = 0;

	json_array_foreach(list, i, v) if (!rc) rc = box_make_secret(b, v, e);
	if (rc || !b->cfg.secrets.n)
		return rc ? err_wrap(e, "config.secrets") : 0;
	if (!p)
		return err_errno(e, ENOMEM, "network policy");
	rc = netpolicy_parse(b->cfg.network, strlen(b->cfg.network), p, e);
	if (!rc && !strcmp(b->cfg.scope, "none") && !netpolicy_opens(p, NETRULE_OUT))
		rc = err_set(e, EINVAL, "config.secrets: with scope none no host is reached");
	return rc;
}

/* A copy of the configuration without values of secrets. */
static json_t *box_config_noted(const struct box *b)
{
	json_t *copy = json_copy(b->config), *secrets = json_object_get(b->config, "secrets"), *v;
	json_t *names = json_is_array(secrets) ? json_array() : NULL;
	size_t i;

	json_array_foreach(names ? secrets : NULL, i, v)
	{
		json_t *one = json_copy(v);

		json_object_del(one, "value");
		json_array_append_new(names, one);
	}
	if (copy && names)
		json_object_set_new(copy, "secrets", names);
	else
		json_decref(names);
	return copy;
}

void box_wipe_secrets(json_t *config)
{
	json_t *v;
	size_t i;

	json_array_foreach(json_object_get(config, "secrets"), i, v)
	{
		json_t *value = json_object_get(v, "value");

		if (json_is_string(value))
			explicit_bzero((char *)json_string_value(value), json_string_length(value));
	}
}

/* config.volumes: named volumes of the namespace, and what the server allows of its host. */
static int box_make_volumes(struct box *b, struct err *e)
{
	const struct server_options *opt = b->server->opt;
	struct volumes_policy policy = {
		.ns = b->ns,
		.restricted = true,
		.dirs = opt->allow_volumes,
		.n_dirs = opt->n_allow_volumes,
	};
	json_t *list = json_object_get(b->config, "volumes"), *v;
	auto_free char *parent = NULL;
	size_t i;
	int rc = 0;

	if (!json_array_size(list))
		return 0;
	json_array_foreach(list, i, v)
	{
		struct volume one;

		if (!rc)
			rc = volume_parse(json_string_value(v), false, &one, e);
		if (!rc)
			rc = volume_list_add(&b->cfg.volumes, &one, e);
	}
	if (!rc)
		rc = volumes_parent(opt->home, b->ns, &parent, e);
	policy.parent = parent;
	if (!rc)
		rc = volumes_resolve(&b->cfg.volumes, &policy, e);
	return rc ? err_wrap(e, "config.volumes") : 0;
}

/* Who names a group wants to be in it. */
static int box_make_scope(struct box *b, struct err *e)
{
	const char *group = rpc_string(b->config, "group"), *scope = rpc_string(b->config, "scope");
	int rc;

	if (!scope)
		scope = group ? "group" : "public";
	if (!strcmp(scope, "group") != !!group)
		return err_set(e, EINVAL,
			       "config.scope group and config.group go together: give both, or "
			       "neither");
	rc = box_strdup(&b->cfg.scope, scope, e);
	return rc || !group ? rc : groups_set(&b->cfg, b->server->opt->home, b->ns, group, e);
}

int box_make_config(struct box *b, struct err *e)
{
	struct sandbox_config *cfg = &b->cfg;
	double cpus = 1;
	int rc;

	rpc_number(b->config, "cpus", &cpus);
	cfg->cpus = (unsigned)cpus;
	cfg->memory_bytes = b->memory_mib << 20;
	cfg->disk_bytes = BOX_DISK_BYTES;
	cfg->boot_timeout_s = BOX_BOOT_TIMEOUT_S;
	if ((rc = box_strdup(&cfg->name, b->name, e)) ||
	    (rc = box_strdup(&cfg->image, rpc_string(b->config, "image"), e)) ||
	    (rc = box_strdup(&cfg->engine, "auto", e)) || (rc = box_make_scope(b, e)) ||
	    (rc = box_make_network(b, e)) ||
	    (rc = box_strdup(&cfg->jail, b->server->opt->jail, e)) ||
	    (rc = parts_path("initramfs.cpio.gz", &cfg->initramfs, e)) ||
	    (rc = parts_path("vmlinux", &cfg->kernel, e)))
		return rc;
	rc = box_read_ports(b, e);
	if (!rc)
		rc = box_make_secrets(b, e);
	return rc ? rc : box_make_volumes(b, e);
}

/* ---- what is noted about it ---------------------------------------------------------------- */

/* Builds b->env out of the meta data. */
static int box_set_env(struct box *b, struct err *e)
{
	json_t *env = json_object_get(b->meta, "env"), *v;
	int rc = 0;
	size_t i;

	json_array_foreach(env, i, v) if (!rc) rc =
		frame_list_add(&b->env_bytes, &b->env, json_string_value(v), json_string_length(v));
	if (rc || b->env.len > FRAME_BODY_MAX / 2)
		return err_set(e, E2BIG, "the environment is too long (limit %u bytes)",
			       FRAME_BODY_MAX / 2);
	frame_list_end(&b->env_bytes, &b->env);
	return 0;
}

static json_t *box_env(const struct box *b, const struct image *image)
{
	json_t *env = json_array(), *envs = json_object_get(b->config, "envs"), *v;
	char text[SECRET_ENV_MAX];
	size_t i;

	for (char *const *p = image->config.env; p && *p; p++)
		json_array_append_new(env, json_string(*p));
	for (unsigned n = 0; n < b->cfg.secrets.n; n++)
		json_array_append_new(env, json_string(secret_env(&b->cfg.secrets.v[n], text)));
	json_array_foreach(envs, i, v) json_array_append(env, v);
	return env;
}

int box_make_meta(struct box *b, const struct image *image, struct err *e)
{
	const char *workdir = rpc_string(b->config, "workdir");
	time_t t = time(NULL);
	char now[32];
	struct tm tm;
	int rc;

	strftime(now, sizeof(now), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
	if (!workdir)
		workdir = image->config.workdir;
	b->meta =
		json_pack("{s:s, s:o, s:s, s:s, s:s, s:s, s:I, s:i, s:s, s:o}", "image",
			  b->cfg.image, "env", box_env(b, image), "workdir", workdir ? workdir : "",
			  "user", image->config.user ? image->config.user : "", "started_at", now,
			  "key", b->key, "memory", (json_int_t)b->memory_mib, "cpus",
			  (int)b->cfg.cpus, "scope", b->cfg.scope, "config", box_config_noted(b));
	if (!b->meta)
		return err_set(e, EINVAL, "the image's configuration is not valid UTF-8");
	rc = box_strdup(&b->cfg.image_path, image->rootfs, e);
	if (!rc)
		rc = volumes_own(&b->cfg.volumes, image->config.user, e);
	if (!rc)
		rc = imageconfig_apply(&b->cfg, &image->config, e);
	return rc ? rc : box_set_env(b, e);
}

int box_write_meta(const struct box *b, int dirfd, struct err *e)
{
	auto_free char *text = NULL;

	if (b->idle_ms)
		json_object_set_new(b->meta, "idle_timeout", json_real((double)b->idle_ms / 1000));
	else
		json_object_del(b->meta, "idle_timeout");
	text = json_dumps(b->meta, JSON_INDENT(1));
	if (!text)
		return err_errno(e, ENOMEM, BOX_META_FILE);
	return file_write_at(dirfd, BOX_META_FILE, text, strlen(text), 0600, false, e);
}

/* Its directory. Return: a descriptor. */
static int box_open_dir(const struct box *b, struct err *e)
{
	auto_free char *parent = box_parent(b);
	auto_free char *dir = NULL;
	int fd;

	if (!parent || asprintf(&dir, "%s/%s", parent, b->name) < 0) {
		dir = NULL;
		return err_errno(e, ENOMEM, BOX_META_FILE);
	}
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? err_errno(e, errno, "cannot open %s", dir) : fd;
}

int box_save_meta(struct box *b, struct err *e)
{
	auto_close int fd = box_open_dir(b, e);

	return fd < 0 ? fd : box_write_meta(b, fd, e);
}

void box_keep_network(struct box *b, json_t *config)
{
	struct err e = ERR_INIT;
	auto_close int fd = box_open_dir(b, &e);
	json_t *lines;

	if (fd < 0 || box_read_running(b, fd, &e)) {
		log_warn("event=network-rules-not-kept ns=%s name=%s reason=\"%s\"", b->ns, b->name,
			 err_text(&e));
		return;
	}
	lines = box_network_lines(b->cfg.network ? b->cfg.network : "",
				  b->cfg.network ? strlen(b->cfg.network) : 0);
	if (json_array_size(lines) || json_object_get(config, "network"))
		json_object_set_new(config, "network", lines);
	else
		json_decref(lines);
}

/* What an earlier server wrote; older ones wrote less. */
int box_read_meta(struct box *b, int dirfd, struct err *e)
{
	auto_free char *text = NULL;
	json_t *config;
	json_error_t je;
	double mib = 0;
	size_t len;
	int rc;

	rc = file_read_at(dirfd, BOX_META_FILE, BOX_META_MAX, &text, &len, e);
	if (rc)
		return rc;
	b->meta = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
	if (!b->meta)
		return err_set(e, EINVAL, BOX_META_FILE ":%d: %s", je.line, je.text);
	snprintf(b->key, sizeof(b->key), "%s", box_meta(b, "key"));
	if (rpc_number(b->meta, "memory", &mib) && mib > 0 && mib < 1e9)
		b->memory_mib = (uint64_t)mib;
	b->idle_ms = box_config_idle(b->meta);
	config = json_object_get(b->meta, "config");
	if (rpc_string(config, "image"))
		b->config = json_incref(config);
	return box_set_env(b, e);
}

/* ---- what others are told --------------------------------------------------------------------- */

/* Those that are bound: before that a port may not have been chosen. */
static json_t *box_ports(const struct box *b)
{
	json_t *a = json_array();

	if (b->state == BOX_PREPARING)
		return a;
	for (size_t i = 0; a && i < b->cfg.ports.n; i++) {
		const struct publish *p = &b->cfg.ports.v[i];
		char addr[INET6_ADDRSTRLEN];

		inet_ntop(p->ipv6 ? AF_INET6 : AF_INET, p->addr, addr, sizeof(addr));
		json_array_append_new(a, json_pack("{s:s, s:i, s:i, s:s}", "host_ip", addr,
						   "host_port", p->host, "guest_port", p->guest,
						   "protocol", p->udp ? "udp" : "tcp"));
	}
	return a;
}

json_t *box_info(const struct box *b)
{
	static const char *const states[] = {
		[BOX_PREPARING] = "preparing",
		[BOX_BOOTING] = "booting",
		[BOX_READY] = "running",
		[BOX_STOPPING] = "stopping",
	};
	const char *image = rpc_string(b->meta ? b->meta : b->config, "image");
	const char *scope = b->cfg.scope ? b->cfg.scope : rpc_string(b->meta, "scope");
	json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s?, s:s?, s:s}", "name", b->name, "namespace",
			      b->ns, "image", image ? image : "", "state", states[b->state],
			      "engine", b->engine[0] ? b->engine : NULL, "isolation",
			      b->isolation[0] ? b->isolation : NULL, "started_at",
			      box_meta(b, "started_at"));
	double cpus = b->cfg.cpus;

	if (!o)
		return NULL;
	if (!cpus)
		rpc_number(b->meta, "cpus", &cpus);
	json_object_set_new(o, "memory",
			    b->memory_mib ? json_integer((json_int_t)b->memory_mib) : json_null());
	json_object_set_new(o, "cpus", cpus ? json_integer((json_int_t)cpus) : json_null());
	json_object_set_new(o, "scope", scope ? json_string(scope) : json_null());
	json_object_set_new(o, "idle_timeout",
			    b->idle_ms ? json_real((double)b->idle_ms / 1000) : json_null());
	json_object_set_new(o, "ports", box_ports(b));
	return o;
}
