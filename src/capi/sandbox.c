/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a sandbox, and the calls that run something in it. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "capi/internal.h"

#define SANDBOX_STILL_STARTING "timed out waiting"
#define SANDBOX_SECONDS_MAX 1e12

static const struct {
	const char *name, *language, *image;
} sandbox_languages[] = {
	{ "python", MSB_PYTHON, "microsandbox/python" },
	{ "node", MSB_NODE, "microsandbox/node" },
	{ "nodejs", MSB_NODE, "microsandbox/node" },
	{ "javascript", MSB_NODE, "microsandbox/node" },
};

struct msb_sandbox {
	struct capi_client *client;
	char *name, *language;
	const char *image; /* of the language; NULL: none */
	json_t *config; /* what it was made with, as start sends it */
	double timeout; /* of a start; 0: not told */
	pthread_mutex_t lock; /* of what follows */
	bool started, ready;
};

/* ---- configuration ---- */

static int sandbox_set_seconds(json_t *o, const char *key, double seconds, struct msb_error **err)
{
	if (seconds == 0)
		return 0;
	if (!(seconds > 0 && seconds < SANDBOX_SECONDS_MAX))
		return capi_fail(err, MSB_ERR_ARGUMENT,
				 "%s must be a number of seconds above 0, not %g", key, seconds);
	return o ? capi_set_seconds(o, key, seconds, err) : 0;
}

static int sandbox_set_cpus(json_t *o, double cpus, struct msb_error **err)
{
	if (cpus == 0)
		return 0;
	if (!(cpus > 0 && cpus < 1e6))
		return capi_fail(err, MSB_ERR_ARGUMENT, "cpus must be a number above 0, not %g",
				 cpus);
	return capi_set(o, "cpus", json_integer(cpus < 1 ? 1 : (json_int_t)(cpus + 0.5)), err);
}

/* Adds one to @list. What is missing would be for the server to say, after the others went there. */
static int sandbox_add_secret(json_t *list, const struct msb_secret *secret, struct msb_error **err)
{
	struct msb_secret s;
	json_t *o;
	int rc = capi_options(&s, sizeof(s), secret, "msb_secret", err);

	if (rc)
		return rc;
	if (!s.name || !s.value || !s.hosts)
		return capi_fail(err, MSB_ERR_ARGUMENT, "secrets: %s has no %s",
				 s.name ? s.name : "one",
				 !s.name    ? "name"
				 : !s.value ? "value"
					    : "hosts");
	o = json_object();
	rc = o ? 0 : capi_no_memory(err);
	rc = rc ? rc : capi_set_text(o, "name", s.name, err);
	rc = rc ? rc : capi_set_text(o, "value", s.value, err);
	rc = rc ? rc : capi_set_texts(o, "hosts", s.hosts, err);
	if (!rc && json_array_append(list, o))
		rc = capi_no_memory(err);
	json_decref(o);
	return rc;
}

static int sandbox_set_secrets(json_t *o, const struct msb_secret *const *secrets,
			       struct msb_error **err)
{
	json_t *list;
	int rc = 0;

	if (!secrets)
		return 0;
	list = json_array();
	for (; list && *secrets && !rc; secrets++)
		rc = sandbox_add_secret(list, *secrets, err);
	if (!rc)
		return capi_set(o, "secrets", list, err);
	json_decref(list);
	return rc;
}

/* The members that are set. *@out: the caller's, written on success only. */
static int sandbox_read_config(json_t **out, double *timeout, const struct msb_config *config,
			       struct msb_error **err)
{
	struct msb_config c;
	json_t *o;
	int rc = capi_options(&c, sizeof(c), config, "msb_config", err);

	if (rc)
		return rc;
	o = json_object();
	if (!o)
		return capi_no_memory(err);
	rc = rc ? rc : capi_set_text(o, "image", c.image, err);
	if (!rc && c.memory_mib)
		rc = capi_set(o, "memory", json_integer(c.memory_mib), err);
	rc = rc ? rc : sandbox_set_cpus(o, c.cpus, err);
	rc = rc ? rc : capi_set_texts(o, "envs", c.envs, err);
	rc = rc ? rc : capi_set_text(o, "workdir", c.workdir, err);
	rc = rc ? rc : capi_set_text(o, "scope", c.scope, err);
	rc = rc ? rc : sandbox_set_seconds(NULL, "timeout", c.timeout, err);
	rc = rc ? rc : sandbox_set_seconds(o, "idle_timeout", c.idle_timeout, err);
	rc = rc ? rc : capi_set_texts(o, "volumes", c.volumes, err);
	rc = rc ? rc : capi_set_texts(o, "ports", c.ports, err);
	rc = rc ? rc : capi_set_texts(o, "depends_on", c.depends_on, err);
	rc = rc ? rc : capi_set_pairs(o, "scripts", c.scripts, err);
	rc = rc ? rc : capi_set_text(o, "shell", c.shell, err);
	rc = rc ? rc : capi_set_text(o, "exec", c.exec, err);
	rc = rc ? rc : capi_set_texts(o, "network", c.network, err);
	rc = rc ? rc : capi_set_text(o, "group", c.group, err);
	rc = rc ? rc : sandbox_set_secrets(o, c.secrets, err);
	if (rc) {
		json_decref(o);
		return rc;
	}
	if (c.timeout > 0)
		*timeout = c.timeout;
	*out = o;
	return 0;
}

/* ---- making and freeing ---- */

static int sandbox_take_name(struct msb_sandbox *sb, const char *name, struct msb_error **err)
{
	uint32_t random;

	if (name && *name) {
		sb->name = strdup(name);
		return sb->name ? 0 : capi_no_memory(err);
	}
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return capi_fail(err, MSB_ERR_ARGUMENT, "no random bytes for a name: give one");
	if (asprintf(&sb->name, "sandbox-%08x", (unsigned)random) < 0) {
		sb->name = NULL;
		return capi_no_memory(err);
	}
	return 0;
}

static int sandbox_take_language(struct msb_sandbox *sb, const char *language,
				 struct msb_error **err)
{
	if (!language || !*language)
		return capi_fail(err, MSB_ERR_ARGUMENT,
				 "no language is given: MSB_PYTHON, MSB_NODE or another");
	for (size_t i = 0; i < ARRAY_SIZE(sandbox_languages); i++)
		if (!strcasecmp(sandbox_languages[i].name, language)) {
			language = sandbox_languages[i].language;
			sb->image = sandbox_languages[i].image;
			break;
		}
	sb->language = strdup(language);
	return sb->language ? 0 : capi_no_memory(err);
}

int msb_sandbox_new(struct msb_sandbox **out, const char *language, const char *name,
		    const struct msb_server *server, const struct msb_config *config,
		    struct msb_error **err)
{
	struct msb_sandbox *sb = calloc(1, sizeof(*sb));
	int rc;

	if (!sb)
		return capi_no_memory(err);
	pthread_mutex_init(&sb->lock, NULL);
	rc = sandbox_take_language(sb, language, err);
	rc = rc ? rc : sandbox_take_name(sb, name, err);
	rc = rc ? rc : capi_client_new(&sb->client, server, err);
	rc = rc ? rc : sandbox_read_config(&sb->config, &sb->timeout, config, err);
	if (rc)
		msb_sandbox_free(sb);
	else
		*out = sb;
	return rc;
}

void msb_sandbox_free(struct msb_sandbox *sb)
{
	if (!sb)
		return;
	capi_client_free(sb->client);
	free(sb->name);
	free(sb->language);
	json_decref(sb->config);
	pthread_mutex_destroy(&sb->lock);
	free(sb);
}

static void sandbox_set_state(struct msb_sandbox *sb, bool started, bool ready)
{
	pthread_mutex_lock(&sb->lock);
	sb->started = started;
	sb->ready = ready;
	pthread_mutex_unlock(&sb->lock);
}

const char *msb_sandbox_name(const struct msb_sandbox *sb)
{
	return sb->name;
}

const char *msb_sandbox_namespace(const struct msb_sandbox *sb)
{
	return capi_client_namespace(sb->client);
}

const char *msb_sandbox_server_url(const struct msb_sandbox *sb)
{
	return capi_client_url(sb->client);
}

const char *msb_sandbox_language(const struct msb_sandbox *sb)
{
	return sb->language;
}

const char *msb_sandbox_default_image(const struct msb_sandbox *sb)
{
	return sb->image;
}

int msb_sandbox_is_started(struct msb_sandbox *sb)
{
	int is;

	pthread_mutex_lock(&sb->lock);
	is = sb->started;
	pthread_mutex_unlock(&sb->lock);
	return is;
}

int msb_sandbox_is_ready(struct msb_sandbox *sb)
{
	int is;

	pthread_mutex_lock(&sb->lock);
	is = sb->ready;
	pthread_mutex_unlock(&sb->lock);
	return is;
}

/* ---- what other files need of it ---- */

int capi_check_started(struct msb_sandbox *sb, struct msb_error **err)
{
	if (msb_sandbox_is_started(sb))
		return 0;
	return capi_fail(err, MSB_ERR_NOT_STARTED, "Sandbox is not started. Call start() first.");
}

struct capi_client *capi_sandbox_client(struct msb_sandbox *sb)
{
	return sb->client;
}

int capi_sandbox_params(const struct msb_sandbox *sb, json_t **out, struct msb_error **err)
{
	json_t *o = json_object();
	int rc;

	if (!o)
		return capi_no_memory(err);
	rc = capi_set_text(o, "sandbox", sb->name, err);
	if (!rc)
		rc = capi_set_text(o, "namespace", capi_client_namespace(sb->client), err);
	if (rc)
		json_decref(o);
	else
		*out = o;
	return rc;
}

/* Percent-encodes all but the unreserved characters of RFC 3986. malloc()ed; NULL: no memory. */
static char *sandbox_encode(const char *text)
{
	static const char hex[] = "0123456789ABCDEF";
	static const char plain[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
	char *out = calloc(strlen(text) + 1, 3), *to = out;

	for (; out && *text; text++) {
		if (strchr(plain, *text)) {
			*to++ = *text;
		} else {
			*to++ = '%';
			*to++ = hex[(unsigned char)*text >> 4];
			*to++ = hex[(unsigned char)*text & 15];
		}
	}
	return out;
}

char *capi_path_add(char *path, const char *key, const char *value)
{
	auto_free char *old = path;
	auto_free char *encoded = value ? sandbox_encode(value) : NULL;
	char *longer = NULL;

	if (!old || !value)
		return take_ptr(&old);
	if (!encoded ||
	    asprintf(&longer, "%s%c%s=%s", old, strchr(old, '?') ? '&' : '?', key, encoded) < 0)
		return NULL;
	return longer;
}

char *capi_sandbox_path(const struct msb_sandbox *sb, const char *what)
{
	auto_free char *name = sandbox_encode(sb->name);
	char *path = NULL;

	if (!name || asprintf(&path, "/api/v1/sandboxes/%s/%s", name, what) < 0)
		return NULL;
	return capi_path_add(path, "namespace", capi_client_namespace(sb->client));
}

/* ---- life ---- */

/* Fills in what neither the sandbox nor @given says. */
static int sandbox_defaults(const struct msb_sandbox *sb, json_t *config, struct msb_error **err)
{
	int rc = 0;

	if (!json_object_get(config, "image") && !sb->image)
		return capi_fail(err, MSB_ERR_ARGUMENT,
				 "'%s' has no image of its own: set image in struct msb_config",
				 sb->language);
	if (!json_object_get(config, "image"))
		rc = capi_set_text(config, "image", sb->image, err);
	if (!rc && !json_object_get(config, "memory"))
		rc = capi_set(config, "memory", json_integer(CAPI_MEMORY_MIB), err);
	if (!rc && !json_object_get(config, "cpus"))
		rc = capi_set(config, "cpus", json_integer(1), err);
	return rc;
}

static int sandbox_start_params(const struct msb_sandbox *sb, const struct msb_config *given,
				json_t **out, double *timeout, struct msb_error **err)
{
	json_t *config = NULL, *o = NULL, *params;
	int rc;

	*timeout = sb->timeout > 0 ? sb->timeout : CAPI_START_TIMEOUT;
	rc = sandbox_read_config(&o, timeout, given, err);
	if (rc)
		return rc;
	config = json_copy(sb->config);
	if (!config || json_object_update(config, o))
		rc = capi_no_memory(err);
	json_decref(o);
	rc = rc ? rc : sandbox_defaults(sb, config, err);
	rc = rc ? rc : capi_sandbox_params(sb, &params, err);
	if (rc) {
		json_decref(config);
		return rc;
	}
	rc = capi_set(params, "config", config, err);
	rc = rc ? rc : capi_set_seconds(params, "timeout", *timeout, err);
	if (rc)
		json_decref(params);
	else
		*out = params;
	return rc;
}

static int sandbox_took_start(struct msb_sandbox *sb, json_t *result, const char *method,
			      struct msb_error **err)
{
	const char *text = json_string_value(result);

	if (!text)
		return capi_fail(err, MSB_ERR_INVALID_RESPONSE,
				 "the server's answer to %s is no text", method);
	sandbox_set_state(sb, true, !strstr(text, SANDBOX_STILL_STARTING));
	return 0;
}

int msb_sandbox_start(struct msb_sandbox *sb, const struct msb_config *config,
		      struct msb_cancel *cancel, struct msb_error **err)
{
	json_t *params, *result = NULL;
	double timeout;
	int rc;

	if (msb_sandbox_is_started(sb))
		return 0;
	rc = sandbox_start_params(sb, config, &params, &timeout, err);
	if (rc)
		return rc;
	rc = capi_call(sb->client, "sandbox.start", params, timeout + CAPI_GRACE, cancel, &result,
		       err);
	rc = rc ? rc : sandbox_took_start(sb, result, "sandbox.start", err);
	json_decref(result);
	return rc;
}

static int sandbox_call_stop(struct msb_sandbox *sb, double limit, struct msb_cancel *cancel,
			     struct msb_error **err)
{
	json_t *params;
	int rc = capi_sandbox_params(sb, &params, err);

	return rc ? rc : capi_call(sb->client, "sandbox.stop", params, limit, cancel, NULL, err);
}

int msb_sandbox_create(struct msb_sandbox **out, const char *language, const char *name,
		       const struct msb_server *server, const struct msb_config *config,
		       struct msb_cancel *cancel, struct msb_error **err)
{
	struct msb_sandbox *sb;
	int rc = msb_sandbox_new(&sb, language, name, server, config, err);

	if (rc)
		return rc;
	rc = msb_sandbox_start(sb, NULL, cancel, err);
	if (!rc) {
		*out = sb;
		return 0;
	}
	/* Nobody knows how far it got. */
	if (rc == MSB_ERR_CANCELLED || rc == MSB_ERR_TIMEOUT)
		sandbox_call_stop(sb, CAPI_GIVEN_UP_LIMIT, NULL, NULL);
	msb_sandbox_free(sb);
	return rc;
}

int msb_sandbox_attach(struct msb_sandbox **out, const char *language, const char *name,
		       const struct msb_server *server, struct msb_cancel *cancel,
		       struct msb_error **err)
{
	struct msb_sandbox *sb;
	struct msb_list *l;
	int rc;

	if (!name || !*name)
		return capi_fail(err, MSB_ERR_ARGUMENT, "no name is given");
	rc = msb_sandbox_new(&sb, language, name, server, NULL, err);
	if (rc)
		return rc;
	sandbox_set_state(sb, true, false);
	rc = msb_sandbox_info(sb, cancel, &l, err);
	if (rc) {
		msb_sandbox_free(sb);
		return rc;
	}
	sandbox_set_state(sb, true, !strcmp(msb_list_item(l, 0)->state, "running"));
	msb_list_free(l);
	*out = sb;
	return 0;
}

int msb_sandbox_stop(struct msb_sandbox *sb, struct msb_cancel *cancel, struct msb_error **err)
{
	struct msb_error *why = NULL;
	int rc = 0;

	if (msb_sandbox_is_started(sb))
		rc = sandbox_call_stop(sb, CAPI_STOP_LIMIT, cancel, &why);
	capi_client_close_idle(sb->client);
	if (rc == MSB_ERR_NOT_FOUND) /* it ended before */
		rc = 0;
	if (rc && err)
		*err = take_ptr(&why);
	msb_error_free(why);
	if (!rc)
		sandbox_set_state(sb, false, false);
	return rc;
}

int msb_sandbox_restart(struct msb_sandbox *sb, double timeout, struct msb_cancel *cancel,
			struct msb_error **err)
{
	json_t *params, *result = NULL;
	double limit = isinf(timeout) ? CAPI_START_TIMEOUT : timeout;
	int rc = capi_check_started(sb, err);

	rc = rc ? rc : capi_check_timeout(timeout, err);
	rc = rc ? rc : capi_sandbox_params(sb, &params, err);
	if (rc)
		return rc;
	rc = capi_set_seconds(params, "timeout", limit, err);
	if (rc) {
		json_decref(params);
		return rc;
	}
	rc = capi_call(sb->client, "sandbox.restart", params, CAPI_STOP_LIMIT + limit + CAPI_GRACE,
		       cancel, &result, err);
	rc = rc ? rc : sandbox_took_start(sb, result, "sandbox.restart", err);
	json_decref(result);
	return rc;
}

/* ---- code and programs ---- */

/* A call of which an execution comes. Takes over @params. */
static int sandbox_execute(struct msb_sandbox *sb, const char *method, json_t *params,
			   double timeout, enum capi_execution_type type, struct msb_cancel *cancel,
			   struct msb_execution **out, struct msb_error **err)
{
	json_t *result = NULL;
	int rc = 0;

	if (!isinf(timeout))
		rc = capi_set_seconds(params, "timeout", timeout, err);
	if (rc) {
		json_decref(params);
		return rc;
	}
	rc = capi_call(sb->client, method, params, timeout + CAPI_GRACE, cancel, &result, err);
	return rc ? rc : capi_execution_new(out, result, type, err);
}

int msb_sandbox_run(struct msb_sandbox *sb, const char *code, double timeout,
		    struct msb_cancel *cancel, struct msb_execution **out, struct msb_error **err)
{
	json_t *params = NULL;
	int rc = capi_check_started(sb, err);

	rc = rc ? rc : capi_check_timeout(timeout, err);
	rc = rc ? rc : capi_need(code, "code", err);
	rc = rc ? rc : capi_sandbox_params(sb, &params, err);
	rc = rc ? rc : capi_set_text(params, "language", sb->language, err);
	rc = rc ? rc : capi_set_text(params, "code", code, err);
	if (rc) {
		json_decref(params);
		return rc;
	}
	return sandbox_execute(sb, "sandbox.repl.run", params, timeout, CAPI_REPL, cancel, out, err);
}

int msb_sandbox_command(struct msb_sandbox *sb, const char *command, const char *const *args,
			double timeout, struct msb_cancel *cancel, struct msb_execution **out,
			struct msb_error **err)
{
	static const char *const none[] = { NULL };
	json_t *params = NULL;
	int rc = capi_check_started(sb, err);

	rc = rc ? rc : capi_check_timeout(timeout, err);
	rc = rc ? rc : capi_need(command, "command", err);
	rc = rc ? rc : capi_sandbox_params(sb, &params, err);
	rc = rc ? rc : capi_set_text(params, "command", command, err);
	rc = rc ? rc : capi_set_texts(params, "args", args ? args : none, err);
	if (rc) {
		json_decref(params);
		return rc;
	}
	return sandbox_execute(sb, "sandbox.command.run", params, timeout, CAPI_COMMAND, cancel,
			       out, err);
}

/* ---- what is known of it ---- */

/* A call of which a SandboxInfo comes. Takes over @params; @out may be NULL. */
static int sandbox_ask_info(struct msb_sandbox *sb, const char *method, json_t *params,
			    struct msb_cancel *cancel, struct msb_list **out,
			    struct msb_error **err)
{
	struct msb_list *l;
	json_t *o = NULL;
	int rc = capi_call(sb->client, method, params, CAPI_QUERY_LIMIT, cancel, &o, err);

	rc = rc ? rc : capi_list_of_one(&l, o, err);
	if (rc)
		return rc;
	if (out)
		*out = l;
	else
		msb_list_free(l);
	return 0;
}

int msb_sandbox_info(struct msb_sandbox *sb, struct msb_cancel *cancel, struct msb_list **out,
		     struct msb_error **err)
{
	json_t *params;
	int rc = capi_check_started(sb, err);

	rc = rc ? rc : capi_sandbox_params(sb, &params, err);
	return rc ? rc : sandbox_ask_info(sb, "sandbox.get", params, cancel, out, err);
}

int msb_sandbox_keep_alive(struct msb_sandbox *sb, double idle_timeout, struct msb_cancel *cancel,
			   struct msb_list **out, struct msb_error **err)
{
	json_t *params = NULL;
	int rc = capi_check_started(sb, err);

	rc = rc ? rc : capi_sandbox_params(sb, &params, err);
	if (!rc && idle_timeout > 0 && isinf(idle_timeout))
		rc = capi_set(params, "idle_timeout", json_null(), err);
	else if (!rc)
		rc = sandbox_set_seconds(params, "idle_timeout", idle_timeout, err);
	if (rc) {
		json_decref(params);
		return rc;
	}
	return sandbox_ask_info(sb, "sandbox.keep_alive", params, cancel, out, err);
}
