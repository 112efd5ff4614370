/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "capi/internal.h"

static char error_out_of_memory[] = "out of memory";
/* The one that needs no memory; never freed, never changed. */
static struct msb_error error_no_memory = {
	.kind = MSB_ERR_NO_MEMORY,
	.message = error_out_of_memory,
};

static const struct {
	int kind;
	const char *name;
} error_kinds[] = {
	{ MSB_OK, "ok" },
	{ MSB_ERR_ARGUMENT, "bad_argument" },
	{ MSB_ERR_NO_MEMORY, "no_memory" },
	{ MSB_ERR_NOT_STARTED, "not_started" },
	{ MSB_ERR_UNREACHABLE, "unreachable" },
	{ MSB_ERR_TIMEOUT, "timeout" },
	{ MSB_ERR_INVALID_RESPONSE, "invalid_response" },
	{ MSB_ERR_CANCELLED, "cancelled" },
	{ MSB_ERR_SERVER, "server" },
	{ MSB_ERR_UNAUTHORIZED, "unauthorized" },
	{ MSB_ERR_DENIED, "denied" },
	{ MSB_ERR_INVALID, "invalid" },
	{ MSB_ERR_NOT_FOUND, "not_found" },
	{ MSB_ERR_SANDBOX_FAILED, "sandbox_failed" },
	{ MSB_ERR_NOT_RUN, "not_run" },
	{ MSB_ERR_COMMAND_TIMEOUT, "command_timeout" },
	{ MSB_ERR_LIMIT, "limit" },
	{ MSB_ERR_FILE, "file" },
};

const char *msb_version(void)
{
	return MSB_VERSION_STRING;
}

int msb_version_number(void)
{
	return MSB_VERSION_NUMBER;
}

const char *msb_kind_name(int kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(error_kinds); i++)
		if (error_kinds[i].kind == kind)
			return error_kinds[i].name;
	return "unknown";
}

int capi_no_memory(struct msb_error **err)
{
	if (err)
		*err = &error_no_memory;
	return MSB_ERR_NO_MEMORY;
}

int capi_fail(struct msb_error **err, int kind, const char *fmt, ...)
{
	struct msb_error *e;
	va_list ap;
	int n;

	if (!err)
		return kind;
	e = calloc(1, sizeof(*e));
	if (!e)
		return capi_no_memory(err);
	e->kind = kind;
	va_start(ap, fmt);
	n = vasprintf(&e->message, fmt, ap);
	va_end(ap);
	if (n < 0) {
		free(e);
		return capi_no_memory(err);
	}
	*err = e;
	return kind;
}

/* What a program that ran out of time had printed; what of it is no list of lines is left out. */
static int error_take_output(struct msb_error *e)
{
	const json_t *lines = json_object_get(e->data, "output");

	e->out = capi_join_lines(lines, "stdout", &e->out_len);
	e->err = capi_join_lines(lines, "stderr", &e->err_len);
	return e->out && e->err ? 0 : -1;
}

int capi_fail_server(struct msb_error **err, int kind, const char *message, int code, int status,
		     json_t *data)
{
	struct msb_error *e = NULL;

	if (!err) {
		json_decref(data);
		return kind;
	}
	kind = capi_fail(&e, kind, "%s", message);
	if (e == &error_no_memory) {
		json_decref(data);
		*err = e;
		return kind;
	}
	e->code = code;
	e->http_status = status;
	e->data = data;
	e->errno_name = json_string_value(json_object_get(data, "errno"));
	e->path = json_string_value(json_object_get(data, "path"));
	if (data && !json_is_null(data))
		e->data_text = json_dumps(data, JSON_COMPACT | JSON_ENCODE_ANY);
	if ((data && !json_is_null(data) && !e->data_text) ||
	    (kind == MSB_ERR_COMMAND_TIMEOUT && error_take_output(e))) {
		msb_error_free(e);
		return capi_no_memory(err);
	}
	*err = e;
	return kind;
}

int capi_fail_again(struct msb_error **err, const struct msb_error *e)
{
	if (e == &error_no_memory)
		return capi_no_memory(err);
	return capi_fail_server(err, e->kind, e->message, e->code, e->http_status,
				json_incref(e->data));
}

int msb_error_kind(const struct msb_error *e)
{
	return e ? e->kind : MSB_OK;
}

const char *msb_error_message(const struct msb_error *e)
{
	return e ? e->message : "";
}

int msb_error_code(const struct msb_error *e)
{
	return e ? e->code : 0;
}

int msb_error_http_status(const struct msb_error *e)
{
	return e ? e->http_status : 0;
}

const char *msb_error_data(const struct msb_error *e)
{
	return e ? e->data_text : NULL;
}

const char *msb_error_stdout(const struct msb_error *e, size_t *len)
{
	if (len)
		*len = e ? e->out_len : 0;
	return e && e->out ? e->out : "";
}

const char *msb_error_stderr(const struct msb_error *e, size_t *len)
{
	if (len)
		*len = e ? e->err_len : 0;
	return e && e->err ? e->err : "";
}

const char *msb_error_errno_name(const struct msb_error *e)
{
	return e ? e->errno_name : NULL;
}

const char *msb_error_path(const struct msb_error *e)
{
	return e ? e->path : NULL;
}

void msb_error_free(struct msb_error *e)
{
	if (!e || e == &error_no_memory)
		return;
	free(e->message);
	free(e->data_text);
	free(e->out);
	free(e->err);
	json_decref(e->data);
	free(e);
}

void msb_free(void *p)
{
	free(p);
}

int capi_options(void *dst, size_t dst_size, const void *src, const char *what,
		 struct msb_error **err)
{
	size_t size;

	memset(dst, 0, dst_size);
	if (!src)
		return 0;
	memcpy(&size, src, sizeof(size));
	if (size < sizeof(size) || size > 65536)
		return capi_fail(err, MSB_ERR_ARGUMENT,
				 "struct %s: its size is %zu; set .size to its sizeof, or use "
				 "MSB_INIT()",
				 what, size);
	for (size_t i = dst_size; i < size; i++)
		if (((const char *)src)[i])
			return capi_fail(err, MSB_ERR_ARGUMENT,
					 "struct %s: an option is set that libmicrosandbox %s does "
					 "not have",
					 what, MSB_VERSION_STRING);
	memcpy(dst, src, size < dst_size ? size : dst_size);
	return 0;
}

int capi_check_timeout(double timeout, struct msb_error **err)
{
	if (timeout > 0) /* MSB_NO_LIMIT too; NAN is not */
		return 0;
	return capi_fail(err, MSB_ERR_ARGUMENT,
			 "timeout must be a number of seconds above 0, or MSB_NO_LIMIT, not %g",
			 timeout);
}

int capi_need(const void *argument, const char *name, struct msb_error **err)
{
	return argument ? 0 : capi_fail(err, MSB_ERR_ARGUMENT, "no %s is given", name);
}
