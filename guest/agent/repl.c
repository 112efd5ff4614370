/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The channel side of REPL_RUN: takes the request and its code, and hands complete
 * calls to the interpreter (interp.c).
 */
#include "agent/repl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/interp.h"
#include "base/mem.h"
#include "repl_drivers.h"

#define REPL_CODE_TOTAL (64u * 1024 * 1024) /* code waiting, of all calls together */

/* The driver is in the memory file until the first call; nothing of it has a name. */
#define REPL_PYTHON_BOOT \
	"exec(compile(__import__('posix').pread(8,1<<20,0),'<msb>','exec'),{'__name__':'<msb>'})"
#define REPL_NODE_BOOT \
	"{const f=require('fs'),b=Buffer.alloc(f.fstatSync(8).size);f.readSync(8,b,0,b.length,0);" \
	"require('vm').runInThisContext(b.toString(),{filename:'msb-repl'})(require,(s,o)=>" \
	"import(s,o))}"

static const char *const repl_python_names[] = { "python", NULL };
static const char *const repl_python_programs[] = { "python3", "python", NULL };
static const char *const repl_node_names[] = { "node", "nodejs", "javascript", NULL };
static const char *const repl_node_programs[] = { "node", "nodejs", NULL };
static const char *const repl_shell_names[] = { "sh", "bash", "shell", NULL };
static const char *const repl_shell_programs[] = { "bash", "sh", NULL };

static const struct interp_lang repl_langs[] = {
	{ repl_python_names,
	  repl_python_programs,
	  "Python interpreter",
	  { "-c", REPL_PYTHON_BOOT },
	  embed_python_py,
	  false },
	{ repl_node_names,
	  repl_node_programs,
	  "Node.js interpreter",
	  { "-e", REPL_NODE_BOOT },
	  embed_node_js,
	  false },
	{ repl_shell_names, repl_shell_programs, "shell", { "-s", NULL }, embed_sh_sh, true },
};

static const struct interp_lang *repl_find_lang(const struct frame_str *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(repl_langs); i++)
		for (const char *const *n = repl_langs[i].names; *n; n++)
			if (strlen(*n) == name->len &&
			    !strncasecmp((const char *)name->p, *n, name->len))
				return &repl_langs[i];
	return NULL;
}

int repl_parse_report(const char *line, size_t n, struct repl_report *out)
{
	uint32_t v[3] = { 0 };

	for (unsigned i = 0; i < 3; i++) {
		size_t digits = 0;

		for (; n && *line >= '0' && *line <= '9'; line++, n--, digits++)
			if (__builtin_mul_overflow(v[i], 10u, &v[i]) ||
			    __builtin_add_overflow(v[i], (uint32_t)(*line - '0'), &v[i]))
				return -EPROTO;
		if (!digits || (i < 2 && (!n || *line != ' ')))
			return -EPROTO;
		if (i < 2) {
			line++;
			n--;
		}
	}
	if (n)
		return -EPROTO;
	*out = (struct repl_report){ v[0], v[1], v[2] };
	return 0;
}

static void repl_call_destroy(struct interp_call *c)
{
	c->agent->repl_code_bytes -= c->code_len;
	list_remove(&c->node);
	spawn_fini(&c->spawn);
	buf_fini(&c->code);
	free(c);
}

void repl_call_finish(struct interp_call *c, const struct err *e)
{
	if (e && e->code)
		channel_fail(&c->ch, e);
	else
		channel_finish(&c->ch, FRAME_REPL_DONE, &c->done);
	repl_call_destroy(c);
}

/* All of the code is here. */
static void repl_complete(struct interp_call *c)
{
	struct err e = ERR_INIT;

	if (buf_len(&c->code) != c->code_len)
		err_set(&e, EPROTO, "REPL_RUN: %zu bytes of code came, %llu were announced",
			buf_len(&c->code), (unsigned long long)c->code_len);
	else
		interp_queue(c, c->spawn.user, &e);
	if (e.code)
		repl_call_finish(c, &e);
}

static int repl_data(struct interp_call *c, const struct frame *f)
{
	struct frame_credit credit;

	if (c->in || f->flags != STREAM_IN || f->len > c->window ||
	    f->len > c->code_len - buf_len(&c->code))
		return -EPROTO;
	if (buf_append(&c->code, f->body, f->len))
		return -ENOMEM;
	c->window -= f->len;
	c->owed += f->len;
	if (c->owed < FRAME_WINDOW / 4)
		return 0;
	credit.bytes = c->owed;
	c->window += c->owed;
	c->owed = 0;
	channel_send(&c->ch, FRAME_CREDIT, STREAM_IN, &credit);
	return 0;
}

static int repl_frame(struct channel *ch, const struct frame *f)
{
	struct interp_call *c = container_of(ch, struct interp_call, ch);
	struct frame_credit credit;

	switch (f->type) {
	case FRAME_DATA:
		return repl_data(c, f);
	case FRAME_EOF:
		if (c->in || f->flags != STREAM_IN)
			return -EPROTO;
		repl_complete(c);
		return 0;
	case FRAME_CREDIT:
		if (frame_decode(f, &credit, sizeof(credit)))
			return -EPROTO;
		/* A call that does not run has no output, so its windows are as they began. */
		if (!c->in || c->in->current != c)
			return -EPROTO;
		if (f->flags == STREAM_OUT)
			return ostream_credit(&c->in->out, credit.bytes);
		if (f->flags == STREAM_RESULT && c->wants_results)
			return results_credit(&c->in->results, credit.bytes);
		return f->flags == STREAM_ERR ? ostream_credit(&c->in->err, credit.bytes) : -EPROTO;
	default:
		return -EPROTO;
	}
}

static void repl_close(struct channel *ch)
{
	struct interp_call *c = container_of(ch, struct interp_call, ch);

	if (c->in) {
		interp_abandon(c);
		return;
	}
	c->done.status = REPL_TIMEOUT;
	repl_call_finish(c, NULL);
}

static const struct channel_ops repl_ops = {
	.frame = repl_frame,
	.close = repl_close,
	.lost = repl_close,
};

static struct interp_call *repl_call_create(struct agent *a, const struct interp_lang *lang,
					    const struct frame_repl_run *req, struct err *e)
{
	struct frame_list argv = { 0 };
	struct interp_call *c;

	if (req->code_len > REPL_CODE_TOTAL - a->repl_code_bytes) {
		err_set(e, EAGAIN, "REPL_RUN: %u MiB of code are waiting already",
			REPL_CODE_TOTAL >> 20);
		return NULL;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		err_errno(e, ENOMEM, "REPL_RUN");
		return NULL;
	}
	/* The program and its two arguments are no part of the request. */
	if (spawn_init(&c->spawn, argv, req->env, &req->cwd, &req->user, e)) {
		free(c);
		return NULL;
	}
	c->agent = a;
	c->lang = lang;
	c->code_len = req->code_len;
	c->timeout_ms = req->timeout_ms;
	c->wants_results = req->flags & REPL_RESULTS && !lang->shell;
	c->window = FRAME_WINDOW;
	list_init(&c->node);
	buf_init(&c->code, (size_t)req->code_len + 1);
	a->repl_code_bytes += (size_t)req->code_len;
	return c;
}

void repl_open(struct link *l, const struct frame *f)
{
	const struct interp_lang *lang = NULL;
	struct interp_call *c = NULL;
	struct err e = ERR_INIT;
	struct frame_repl_run req;

	if (frame_decode(f, &req, sizeof(req)))
		err_set(&e, EPROTO, "REPL_RUN: malformed request");
	else if (!(lang = repl_find_lang(&req.language)))
		err_set(&e, EINVAL, "unsupported language '%.*s': expected python, node or sh",
			(int)req.language.len, (const char *)req.language.p);
	else if (req.code_len > FRAME_REPL_CODE_MAX)
		err_set(&e, EMSGSIZE, "REPL_RUN: more than %u MiB of code",
			FRAME_REPL_CODE_MAX >> 20);
	else if (req.flags & ~(uint32_t)REPL_RESULTS)
		err_set(&e, EINVAL, "REPL_RUN: unknown flags 0x%x", req.flags);
	else if (req.cwd.len && req.cwd.p[0] != '/')
		err_set(&e, EINVAL, "REPL_RUN: the working directory must be an absolute path");
	else
		c = repl_call_create(l->agent, lang, &req, &e);
	if (!c) {
		link_send_error(l, f->channel, &e);
		return;
	}
	link_open(l, &c->ch, f->channel, &repl_ops);
}
