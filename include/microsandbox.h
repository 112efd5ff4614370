/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MICROSANDBOX_H
#define MICROSANDBOX_H

/*
 * libmicrosandbox: sandboxes of a microsandbox server, from C and C++.
 *
 *   struct msb_sandbox *sb;
 *   struct msb_execution *x;
 *   struct msb_error *err;
 *
 *   if (msb_sandbox_create(&sb, MSB_PYTHON, "test", NULL, NULL, NULL, &err) == 0 &&
 *       msb_sandbox_run(sb, "print(6 * 7)", 10, NULL, &x, &err) == 0)
 *           puts(msb_execution_output(x, NULL));
 *
 * sdk/c/README.md tells the same at more leisure, sdk/c/examples/ has whole programs.
 *
 * What a function returns
 *   A function that can fail returns 0, or a value of enum msb_kind that says what went
 *   wrong.  Its last parameter, `err`, may be NULL; else *err is set on failure, and only then,
 *   to an object that the caller frees with msb_error_free().  Other results are stored on
 *   success only.  What a result or *err held before is never looked at, nor freed.
 *
 * Who owns what
 *   What a function stores through a pointer to a pointer is the caller's, and has a free
 *   function, which takes NULL as well.  What an accessor returns (a `const char *`, a
 *   `const struct *`) belongs to the object and lives as long.  Arguments are copied: nothing
 *   that is passed in is kept after the call, except the context of a callback during it.
 *   Texts are UTF-8 and end with a NUL.  Where one may hold a NUL itself, as output may, its
 *   length in bytes can be asked for.  Lists of texts end with NULL.
 *
 * Structures with options
 *   They begin with `size`, which the caller sets to the sizeof of the structure, so that a
 *   later library, in which the structure is longer, knows which members a program has.  0 and
 *   NULL mean the default in every other member, so that
 *           struct msb_config config = { .size = sizeof(config), .memory_mib = 1024 };
 *   is all that is needed; in C++, MSB_INIT(&config) first.  Functions with a setter a member
 *   would need an object with a life of its own for what is most often written down in one
 *   place.  Structures that the library returns may grow at their end: never copy one by its
 *   size, and never make an array of them.
 *
 * Threads
 *   A sandbox may be used by several threads at once: each call has a connection of its own
 *   while it lasts.  Only msb_sandbox_free() must be the last call.  A process is read by one
 *   thread at a time while any others write.  All other objects are
 *   for one thread at a time, but what is only read (an execution, a list, an error) may
 *   be read by many; and msb_cancel_trigger() may be called by anybody at any time.  The
 *   library has no state of its own besides libcurl's, starts no thread but one for each
 *   struct msb_process, in which all signals are blocked (and libcurl starts one
 *   to look up a name), and touches no signal.  The environment is read when a sandbox is made or listed:
 *   setenv() at the same time is not safe.
 *
 * Blocking, time limits, and giving up
 *   Calls block.  Time limits are the server's; only if it says nothing for 30 s more does the
 *   library give up by itself (MSB_ERR_TIMEOUT), and if a stream or a process, in which something
 *   comes every 15 or 30 s, is silent for 60 s.  A struct msb_cancel ends a call early, from
 *   another thread or a signal handler: its connection is closed, and the server then kills
 *   what the call had started.  A call is sent once: when a connection breaks, nobody knows
 *   whether it took place, so it is not repeated.
 *
 * Limits
 *   An answer is refused (MSB_ERR_INVALID_RESPONSE) if its head is longer than 64 KiB, its body
 *   longer than `max_answer`, its JSON deeper than 2048, one event of a stream longer than
 *   64 MiB or `max_answer`, or one message of a process longer than 16 MiB or `max_answer`.
 *   A file that is received in pieces may have any size.
 */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MSB_API __attribute__((visibility("default")))
#else
#define MSB_API
#endif

/* ---- version ---- */

/* Of this header; what it declares is there in every later 0.x library of the same soname. */
#define MSB_VERSION_MAJOR 0
#define MSB_VERSION_MINOR 1
#define MSB_VERSION_PATCH 0
#define MSB_VERSION_STRING "0.1.0"
/* To compare: 0.1.0 is 100. */
#define MSB_VERSION_NUMBER (MSB_VERSION_MAJOR * 10000 + MSB_VERSION_MINOR * 100 + MSB_VERSION_PATCH)

/* Of the library that is loaded: "0.1.0", and as MSB_VERSION_NUMBER. */
MSB_API const char *msb_version(void);
MSB_API int msb_version_number(void);

/* Clears a structure with options and sets its size. */
#define MSB_INIT(p) (memset((p), 0, sizeof(*(p))), (void)((p)->size = sizeof(*(p))))

/* As a time limit in seconds: none. Limits of 0 and less are refused, so that a time left that
 * was computed and has run out does not become "for ever". */
#define MSB_NO_LIMIT HUGE_VAL

/* ---- errors ---- */

/* What went wrong. The numbers never change; a later library may have more of them. */
enum msb_kind {
	MSB_OK = 0,
	/* an argument that cannot be sent: a time limit of 0, an address that is none, a text that
	 * is no UTF-8, a structure whose size is wrong */
	MSB_ERR_ARGUMENT = 1,
	MSB_ERR_NO_MEMORY = 2,
	/* a call before the sandbox was started, or after it was stopped */
	MSB_ERR_NOT_STARTED = 3,
	/* no connection, or it broke; then nobody knows whether the call took place; or the process
	 * was closed */
	MSB_ERR_UNREACHABLE = 4,
	/* no answer within the call's time limit and 30 s */
	MSB_ERR_TIMEOUT = 5,
	/* not the answer of a microsandbox server, or longer than the limits */
	MSB_ERR_INVALID_RESPONSE = 6,
	/* a struct msb_cancel was triggered, or a callback did not return 0 */
	MSB_ERR_CANCELLED = 7,

	/* What the server says: msb_error_code() and msb_error_http_status() have more. */
	MSB_ERR_SERVER = 100, /* none of the following */
	MSB_ERR_UNAUTHORIZED = 101, /* the key is missing, wrong or expired */
	MSB_ERR_DENIED = 102, /* the key is not for this namespace */
	MSB_ERR_INVALID = 103, /* a parameter; the message names it */
	MSB_ERR_NOT_FOUND = 104, /* no such sandbox is running */
	MSB_ERR_SANDBOX_FAILED = 105, /* it did not start, or ended during the call */
	MSB_ERR_NOT_RUN = 106, /* the program is not there, or not executable */
	MSB_ERR_COMMAND_TIMEOUT = 107, /* the program reached its time limit and was killed */
	MSB_ERR_LIMIT = 108, /* the server has as many sandboxes as it may have */
	MSB_ERR_FILE = 109 /* the sandbox refused a file operation: msb_error_errno_name() */
};

struct msb_error;

/* The name of a kind, as "not_found"; "unknown" for a number that is none. */
MSB_API const char *msb_kind_name(int kind);

/* All accessors take NULL, for which there is no error: MSB_OK, "", 0, NULL. */
MSB_API int msb_error_kind(const struct msb_error *e);

/* One line for a person: what failed, where, and what to do. Never NULL. */
MSB_API const char *msb_error_message(const struct msb_error *e);

/* The JSON-RPC code, or the server's own code where it has no JSON-RPC answer; 0 if there is none. */
MSB_API int msb_error_code(const struct msb_error *e);

/* 0 if there was no answer. */
MSB_API int msb_error_http_status(const struct msb_error *e);

/* What comes with the error, as JSON text; NULL if nothing does. */
MSB_API const char *msb_error_data(const struct msb_error *e);

/* Of MSB_ERR_COMMAND_TIMEOUT: what was printed until then. @len (may be NULL): bytes. */
MSB_API const char *msb_error_stdout(const struct msb_error *e, size_t *len);
MSB_API const char *msb_error_stderr(const struct msb_error *e, size_t *len);

/* Of MSB_ERR_FILE: the name of the errno in the sandbox, as "ENOENT"; NULL if it is not told. */
MSB_API const char *msb_error_errno_name(const struct msb_error *e);
/* Of MSB_ERR_FILE: the path in the sandbox; NULL if it is not told. */
MSB_API const char *msb_error_path(const struct msb_error *e);

MSB_API void msb_error_free(struct msb_error *e);

/* ---- giving up ---- */

struct msb_cancel;

/*
 * msb_cancel_new() - something that ends calls early
 *
 * Every call that waits for the server takes one, or NULL.  It may be passed to several calls
 * at once, and stays triggered: also calls that are made later then end at once.  It must
 * outlive the calls that it was passed to.
 *
 * Return: 0, MSB_ERR_NO_MEMORY or MSB_ERR_ARGUMENT (no descriptor left).
 */
MSB_API int msb_cancel_new(struct msb_cancel **out, struct msb_error **err);

/*
 * The same by a descriptor of the caller's: a call ends as soon as @fd is readable, or its
 * other side is closed.  A pipe, an eventfd, a signalfd, a timerfd, a pidfd or a socket; it is
 * never read from and never closed.
 */
MSB_API int msb_cancel_from_fd(struct msb_cancel **out, int fd, struct msb_error **err);

/* Ends the calls that it was passed to. Safe in every thread and in a signal handler; keeps
 * errno. Does nothing to one that was made from a descriptor. */
MSB_API void msb_cancel_trigger(struct msb_cancel *c);

MSB_API void msb_cancel_free(struct msb_cancel *c);

/* ---- sandboxes ---- */

/* Languages with an image of their own: microsandbox/python, microsandbox/node. */
#define MSB_PYTHON "python"
#define MSB_NODE "nodejs"

/*
 * Which server, and with which key.  NULL in place of this structure, and in its members,
 * means the environment (MSB_SERVER_URL, MSB_API_KEY), else a file .env in the current
 * directory, else http://127.0.0.1:5555 without a key.  .env is read only if there is no key
 * in this structure and the environment.  Proxies are never used.
 */
struct msb_server {
	size_t size;
	const char *url; /* http://HOST[:PORT], https://HOST[:PORT], unix:///PATH */
	const char *api_key; /* "": none, whatever the environment says */
	const char *namespace_name; /* NULL: it is not sent, so the key's own or "default" */
	size_t max_answer; /* largest answer in bytes; default 512 MiB */
};

/*
 * A secret that the sandbox uses without having it: its environment has a placeholder under the
 * name, and plain HTTP requests to the hosts get the value (docs/network.md).  All members are
 * needed.
 */
struct msb_secret {
	size_t size;
	const char *name; /* of the environment variable */
	const char *value;
	const char *const *hosts; /* "example.org", "*.example.org", "example.org:8080" */
};

/*
 * What a sandbox is to be.  `volumes`, `depends_on` and `scripts` are sent to the server, which
 * says which of them it has; `shell` and `exec` have no effect there so far.
 */
struct msb_config {
	size_t size;
	const char *image; /* default: that of the language */
	uint32_t memory_mib; /* default 512 */
	double cpus; /* default 1; rounded, at least 1 */
	const char *const *envs; /* "KEY=VALUE" */
	const char *workdir; /* where code and programs start; default: the image's */
	const char *scope; /* what the network reaches: "none", "group", "public" (default), "any" */
	double timeout; /* seconds that the start may take; default 180 */
	double idle_timeout; /* seconds without a call after which it is stopped; default: the server's */
	const char *const *volumes;
	const char *const *ports; /* "HOST:GUEST", "0:GUEST", "ADDRESS:HOST:GUEST/udp" */
	const char *const *depends_on;
	const char *const *scripts; /* "NAME=COMMANDS" */
	const char *shell;
	const char *exec;
	const char *const *network; /* rules: "allow tcp example.org:443", "default deny" */
	const char *group; /* of scope "group": sandboxes of the same group reach each other by name */
	const struct msb_secret *const *secrets; /* pointers; the last is NULL */
};

struct msb_sandbox;

/*
 * msb_sandbox_new() - a sandbox that is not started yet; the server is not asked
 * @language: MSB_PYTHON, MSB_NODE, or another that the server knows ("sh"); "node" and
 *            "javascript" are MSB_NODE
 * @name:     NULL: "sandbox-" and 8 hexadecimal digits
 * @server:   NULL: as the environment says
 * @config:   what msb_sandbox_start() takes where it is not told otherwise; may be NULL
 *
 * Return: 0, MSB_ERR_ARGUMENT or MSB_ERR_NO_MEMORY.
 */
MSB_API int msb_sandbox_new(struct msb_sandbox **out, const char *language, const char *name,
			    const struct msb_server *server, const struct msb_config *config,
			    struct msb_error **err);

/*
 * The same and msb_sandbox_start(). If the start is cancelled or takes too long, so that nobody
 * knows how far it got, the sandbox is asked to stop, which may take 5 s more.
 */
MSB_API int msb_sandbox_create(struct msb_sandbox **out, const char *language, const char *name,
			       const struct msb_server *server, const struct msb_config *config,
			       struct msb_cancel *cancel, struct msb_error **err);

/* A sandbox that somebody else started; MSB_ERR_NOT_FOUND if it is not running. */
MSB_API int msb_sandbox_attach(struct msb_sandbox **out, const char *language, const char *name,
			       const struct msb_server *server, struct msb_cancel *cancel,
			       struct msb_error **err);

/*
 * Starts it and waits until it answers; does nothing if it was started.  The members of
 * @config (may be NULL) that are set come before those that the sandbox was made with.
 */
MSB_API int msb_sandbox_start(struct msb_sandbox *sb, const struct msb_config *config,
			      struct msb_cancel *cancel, struct msb_error **err);

/* Stops it and waits until it is gone. Does nothing if it was not started; that it ended by
 * itself is no error. */
MSB_API int msb_sandbox_stop(struct msb_sandbox *sb, struct msb_cancel *cancel,
			     struct msb_error **err);

/*
 * Starts it anew: the same configuration, a fresh disk.
 * @timeout: seconds, or MSB_NO_LIMIT for the server's default of 180
 */
MSB_API int msb_sandbox_restart(struct msb_sandbox *sb, double timeout, struct msb_cancel *cancel,
				struct msb_error **err);

/* Frees the object. The sandbox goes on running: msb_sandbox_stop() stops it. */
MSB_API void msb_sandbox_free(struct msb_sandbox *sb);

MSB_API const char *msb_sandbox_name(const struct msb_sandbox *sb);
/* As it was asked for; NULL: the key's own, or "default". */
MSB_API const char *msb_sandbox_namespace(const struct msb_sandbox *sb);
MSB_API const char *msb_sandbox_server_url(const struct msb_sandbox *sb);
MSB_API const char *msb_sandbox_language(const struct msb_sandbox *sb);
/* The image if none is asked for; NULL: the language has none. */
MSB_API const char *msb_sandbox_default_image(const struct msb_sandbox *sb);
/* 1: it was started (or attached to) by this object, and not stopped since. */
MSB_API int msb_sandbox_is_started(struct msb_sandbox *sb);
/* 1: it answered when it was started. 0 also after a start that took longer than its time. */
MSB_API int msb_sandbox_is_ready(struct msb_sandbox *sb);

/* ---- code and programs ---- */

struct msb_execution;

/*
 * msb_sandbox_run() - run code in the sandbox's interpreter, which keeps its state
 * @timeout: seconds, or MSB_NO_LIMIT.  At the limit the code is interrupted, which is no
 *           failure of this function: msb_execution_timed_out() then says so.
 * @out:     what came of it; msb_execution_free()
 */
MSB_API int msb_sandbox_run(struct msb_sandbox *sb, const char *code, double timeout,
			    struct msb_cancel *cancel, struct msb_execution **out,
			    struct msb_error **err);

/*
 * msb_sandbox_command() - run a program, found in PATH; no shell is involved
 * @args:    without the program's name; NULL: none
 * @timeout: seconds, or MSB_NO_LIMIT.  At the limit the program and all that it started
 *           are killed: MSB_ERR_COMMAND_TIMEOUT.
 *
 * An exit code other than 0 is no failure of this function.
 */
MSB_API int msb_sandbox_command(struct msb_sandbox *sb, const char *command,
				const char *const *args, double timeout, struct msb_cancel *cancel,
				struct msb_execution **out, struct msb_error **err);

enum msb_stream { MSB_STDOUT = 1, MSB_STDERR = 2 };

/*
 * Takes output as it comes, in the thread that made the call.  @data is as the program wrote
 * it, with its newlines, and may end in the middle of a character.  Return: 0; anything else
 * ends the call with MSB_ERR_CANCELLED.
 */
typedef int msb_output_fn(void *context, enum msb_stream stream, const void *data, size_t len);

/* Is told the process id inside the sandbox. Return: as msb_output_fn. */
typedef int msb_started_fn(void *context, int64_t pid);

struct msb_exec {
	size_t size;
	const char *const *args; /* without the program's name */
	const char *const *envs; /* "KEY=VALUE", besides those of the sandbox */
	const char *cwd; /* default: the sandbox's */
	const char *user; /* NAME, UID or UID:GID; default: the image's */
	const void *input; /* standard input; default: empty */
	size_t input_len;
	msb_started_fn *on_started;
	msb_output_fn *on_output; /* NULL: output is dropped */
	void *context;
	/* 1: output is kept in @out as well, as msb_sandbox_command() has it: 8 MiB of it and 1,048,576
	 * lines, then msb_execution_truncated() */
	int keep_output;
};

/*
 * msb_sandbox_exec() - run a program and take what it prints as it comes
 * @exec: may be NULL
 * @out:  exit_code, success, signal, reason and duration; output only if it is to be kept.
 *        May be NULL.
 *
 * As msb_sandbox_command() otherwise, but there is no limit to the output, and the time limit
 * is no failure: msb_execution_timed_out().  Its input is sent with the call: a program that is
 * talked to is an msb_process_start().
 */
MSB_API int msb_sandbox_exec(struct msb_sandbox *sb, const char *command, double timeout,
			     const struct msb_exec *exec, struct msb_cancel *cancel,
			     struct msb_execution **out, struct msb_error **err);

/* msb_sandbox_run() that gives what is printed to a callback (may be NULL) as it comes; @out
 * (may be NULL) holds no output. */
MSB_API int msb_sandbox_run_streamed(struct msb_sandbox *sb, const char *code, double timeout,
				     msb_output_fn *on_output, void *context,
				     struct msb_cancel *cancel, struct msb_execution **out,
				     struct msb_error **err);

/* One line of output, without its newline. Bytes that were no UTF-8 are U+FFFD. */
struct msb_line {
	const char *stream; /* "stdout" or "stderr" */
	const char *text;
	size_t len;
};

/* Standard output or error without ASCII white space at the end. @len: bytes; may be NULL. */
MSB_API const char *msb_execution_output(const struct msb_execution *x, size_t *len);
MSB_API const char *msb_execution_error(const struct msb_execution *x, size_t *len);
/* The same with it: the lines joined by newlines. */
MSB_API const char *msb_execution_stdout(const struct msb_execution *x, size_t *len);
MSB_API const char *msb_execution_stderr(const struct msb_execution *x, size_t *len);
/* All lines in the order in which they came; NULL: there are not so many. */
MSB_API size_t msb_execution_line_count(const struct msb_execution *x);
MSB_API const struct msb_line *msb_execution_line(const struct msb_execution *x, size_t i);
/* 1: it printed more than is kept of a call (8 MiB). */
MSB_API int msb_execution_truncated(const struct msb_execution *x);
/* How long it took in the sandbox; NAN if that is not told. */
MSB_API double msb_execution_duration_ms(const struct msb_execution *x);

/* Of code: "success", or "error": it raised, ran out of time or ended its interpreter. NULL of a program. */
MSB_API const char *msb_execution_status(const struct msb_execution *x);
MSB_API const char *msb_execution_language(const struct msb_execution *x);
/* Of code: "exception", "timeout" or "exited"; of a streamed program: "exited", "signal" or "timeout"; else NULL. */
MSB_API const char *msb_execution_reason(const struct msb_execution *x);
/* 1: reason is "timeout". */
MSB_API int msb_execution_timed_out(const struct msb_execution *x);
/* 1: the code failed, or something was printed on standard error that is no empty line. */
MSB_API int msb_execution_has_error(const struct msb_execution *x);
/* 1: the next call starts with a fresh interpreter. */
MSB_API int msb_execution_state_lost(const struct msb_execution *x);

/* Return: 1 and the exit code in *@code: always of a program (128 + n after signal n), of code
 * only if its interpreter ended; else 0. */
MSB_API int msb_execution_exit_code(const struct msb_execution *x, int *code);
/* Of a program: 1 if its exit code is 0. Of code: 1 if its status is "success". */
MSB_API int msb_execution_success(const struct msb_execution *x);
/* Of a streamed program that a signal ended: which; else 0. */
MSB_API int msb_execution_signal(const struct msb_execution *x);
/* Of msb_sandbox_command(): what was run, as the server tells it; of msb_sandbox_exec() that keeps output:
 * as it was asked for; else NULL. */
MSB_API const char *msb_execution_command(const struct msb_execution *x);
MSB_API size_t msb_execution_arg_count(const struct msb_execution *x);
MSB_API const char *msb_execution_arg(const struct msb_execution *x, size_t i);

/*
 * What code showed beside its output: the value of its last expression, pictures.  text/plain
 * comes first of each value; what follows it shows the same value otherwise.
 */
struct msb_result {
	const char *mime; /* "text/plain", "image/png" */
	const void *data; /* a NUL follows */
	size_t len;
	int is_text; /* 1: the data are UTF-8; 0: bytes */
	const char *note; /* why the data is missing; NULL: it is not */
};

MSB_API size_t msb_execution_result_count(const struct msb_execution *x);
/* NULL: there are not so many. */
MSB_API const struct msb_result *msb_execution_result(const struct msb_execution *x, size_t i);

MSB_API void msb_execution_free(struct msb_execution *x);

/* ---- programs that are talked to ---- */

struct msb_process;

struct msb_process_config {
	size_t size;
	const char *const *args; /* without the program's name */
	const char *const *envs; /* "KEY=VALUE", besides those of the sandbox */
	const char *cwd; /* default: the sandbox's */
	const char *user; /* NAME, UID or UID:GID; default: the image's */
	const void *input; /* the beginning of its input; the server takes 1 MiB with the start */
	size_t input_len;
	int tty; /* 1: on a terminal, where all output is MSB_STDOUT */
	uint32_t rows, cols; /* of the terminal, 1 to 65535; default 24, 80 */
};

/*
 * msb_process_start() - start a program whose input is written while its output is read
 * @timeout: seconds, or MSB_NO_LIMIT.  At the limit the program and all that it started are
 *           killed, which is no failure: msb_execution_timed_out() of msb_process_exit()
 * @config:  may be NULL
 * @out:     when the program runs; msb_process_free()
 *
 * As with msb_sandbox_command(), the program is found in PATH and no shell is involved.  The
 * process has a connection of its own and does not need @sb any more.
 *
 * One thread at a time may read: msb_process_read(), msb_process_wait(), msb_process_exit().
 * Meanwhile any others may call all the rest but msb_process_free(), which is the last call.  In
 * one thread alone, write no more than the program takes without being read: when it waits for
 * somebody to read and the writer for the program, they wait for ever.
 *
 * A call that is given up (struct msb_cancel), also one that writes, ends the connection, and the
 * server kills the program.
 */
MSB_API int msb_process_start(struct msb_process **out, struct msb_sandbox *sb, const char *command,
			      double timeout, const struct msb_process_config *config,
			      struct msb_cancel *cancel, struct msb_error **err);

/* Inside the sandbox; -1: it is not told. */
MSB_API int64_t msb_process_pid(const struct msb_process *p);

/*
 * msb_process_read() - wait for output
 * @buf:    takes at most @room bytes, as the program wrote them; they may end in the middle of a
 *          character
 * @stream: where they were printed; may be NULL
 * @len:    how many; 0: the program has ended, and msb_process_exit() says how
 *
 * Who does not read holds up the program, and nobody else.  A failure is one of the whole
 * process: the connection is closed, and later calls say the same.  MSB_ERR_UNREACHABLE also after
 * msb_process_close(); MSB_ERR_TIMEOUT if the server said nothing for 60 s.
 */
MSB_API int msb_process_read(struct msb_process *p, void *buf, size_t room, enum msb_stream *stream,
			     size_t *len, struct msb_cancel *cancel, struct msb_error **err);

/* Waits for the end; output that was not read until then is dropped. Fails as msb_process_read(). */
MSB_API int msb_process_wait(struct msb_process *p, struct msb_cancel *cancel,
			     struct msb_error **err);

/* How it ended: exit code, success, signal, reason and duration.  NULL until who reads has seen
 * the end.  It belongs to the process. */
MSB_API const struct msb_execution *msb_process_exit(const struct msb_process *p);

/*
 * Input.  Waits while the program takes none and some hundred KiB are on their way to it.  What
 * is written to a program that has ended, or to a connection that broke or was closed, is
 * dropped, which is no failure: who reads is told.
 */
MSB_API int msb_process_write(struct msb_process *p, const void *data, size_t len,
			      struct msb_cancel *cancel, struct msb_error **err);

/* Ends the input. This and the three that follow wait only behind many of their kind, not while
 * the program takes no input, and drop as msb_process_write() does. */
MSB_API int msb_process_close_stdin(struct msb_process *p, struct msb_cancel *cancel,
				    struct msb_error **err);

/* Sets the size of the terminal, 1 to 65535. */
MSB_API int msb_process_resize(struct msb_process *p, uint32_t rows, uint32_t cols,
			       struct msb_cancel *cancel, struct msb_error **err);

/*
 * Sends a signal, "SIGINT" or the like: to the foreground of the terminal, else to the program
 * and what it started.  A name that is none ends the process: who reads gets MSB_ERR_INVALID.
 */
MSB_API int msb_process_signal(struct msb_process *p, const char *name, struct msb_cancel *cancel,
			       struct msb_error **err);
/* The same by its number in the sandbox, 1 to 64. */
MSB_API int msb_process_signal_number(struct msb_process *p, int number, struct msb_cancel *cancel,
				      struct msb_error **err);

/* Closes the connection, so that the server kills the program if it has not ended; a thread that
 * reads or writes comes back.  Takes NULL. */
MSB_API void msb_process_close(struct msb_process *p);

/* The same, and frees the object; it does not wait for the program's end. */
MSB_API void msb_process_free(struct msb_process *p);

/* ---- what is there, and what it uses ---- */

/* What is not known is NULL, -1, or NAN. */
/* A published port; the texts live as long as the list. */
struct msb_port {
	const char *host_ip; /* address of the server's machine that it is bound to */
	uint16_t host_port, guest_port;
	const char *protocol; /* "tcp" or "udp" */
};

struct msb_info {
	const char *name;
	const char *namespace_name;
	const char *image;
	const char *state; /* "preparing", "booting", "running", "stopping" */
	const char *engine; /* "kvm" or "tcg" */
	const char *isolation; /* "hardware" or "emulated" */
	const char *started_at; /* RFC 3339 */
	int64_t memory_mib;
	int64_t cpus;
	const char *scope;
	double idle_timeout; /* seconds; NAN: none */
	const struct msb_port *ports;
	size_t n_ports;
};

struct msb_list;

/* The sandboxes of a namespace; "*" means every namespace that the key may see. */
MSB_API int msb_list(struct msb_list **out, const struct msb_server *server,
		     struct msb_cancel *cancel, struct msb_error **err);
MSB_API size_t msb_list_count(const struct msb_list *l);
/* NULL: there are not so many. */
MSB_API const struct msb_info *msb_list_item(const struct msb_list *l, size_t i);
MSB_API void msb_list_free(struct msb_list *l);

/* What the server knows about this sandbox: a list of one. */
MSB_API int msb_sandbox_info(struct msb_sandbox *sb, struct msb_cancel *cancel,
			     struct msb_list **out, struct msb_error **err);

/*
 * Counts as a call, so that the sandbox is not stopped for being idle.
 * @idle_timeout: seconds, from now on; 0: as it is; MSB_NO_LIMIT: never stop it for that
 * @out:          as msb_sandbox_info(); may be NULL
 */
MSB_API int msb_sandbox_keep_alive(struct msb_sandbox *sb, double idle_timeout,
				   struct msb_cancel *cancel, struct msb_list **out,
				   struct msb_error **err);

/* What is not known is -1, or NAN. */
struct msb_metrics {
	const char *name;
	const char *namespace_name;
	int running;
	double cpu_usage; /* percent of one CPU, since the last call for this sandbox */
	int64_t memory_usage; /* MiB in use inside the sandbox */
	int64_t disk_usage; /* bytes in use on its disk */
};

/* @out: msb_metrics_free() */
MSB_API int msb_sandbox_metrics(struct msb_sandbox *sb, struct msb_cancel *cancel,
				struct msb_metrics **out, struct msb_error **err);
MSB_API void msb_metrics_free(struct msb_metrics *m);

struct msb_network_counter {
	const char *name; /* "passed", "lost", or the reason of a denial: docs/network.md */
	int64_t count;
};

struct msb_network_member {
	const char *name;
	const char *address;
};

struct msb_network {
	const char *scope;
	const char *group; /* NULL: it is in none */
	int closed; /* it was started with nothing open to the outside: no rule can open anything */
	const char *const *rules;
	size_t n_rules;
	const struct msb_network_counter *counters;
	size_t n_counters;
	const struct msb_network_member *members; /* the others of the group */
	size_t n_members;
};

/*
 * What the network may reach now, and what it was denied.
 * @rules: other rules, in place of all that it has, ended by NULL; they hold at once, and what
 *         they do not allow is cut.  NULL: they stay as they are
 * @out:   msb_network_free()
 */
MSB_API int msb_sandbox_network(struct msb_sandbox *sb, const char *const *rules,
				struct msb_cancel *cancel, struct msb_network **out,
				struct msb_error **err);
MSB_API void msb_network_free(struct msb_network *n);

struct msb_log;

/*
 * The last lines of a log.
 * @source: "console" (NULL: that), "vm", "supervisor", "net"
 * @tail:   how many lines; 0: 200
 */
MSB_API int msb_sandbox_log(struct msb_sandbox *sb, const char *source, uint32_t tail,
			    struct msb_cancel *cancel, struct msb_log **out,
			    struct msb_error **err);
MSB_API size_t msb_log_count(const struct msb_log *l);
/* NULL: there are not so many. */
MSB_API const char *msb_log_line(const struct msb_log *l, size_t i);
MSB_API void msb_log_free(struct msb_log *l);

/* ---- files in a sandbox ---- */

struct msb_file {
	const char *name;
	const char *path;
	const char *type; /* "file", "directory", "symlink", "fifo", "socket", "block", "char" */
	uint32_t mode; /* permission bits */
	uint32_t uid, gid;
	int64_t size; /* bytes */
	double mtime; /* seconds since 1970 */
	const char *target; /* of a symbolic link; else NULL */
};

/* Options of the functions below, each of which says which it has; another that is set is an
 * MSB_ERR_ARGUMENT. */
struct msb_fs {
	size_t size;
	const char *user; /* all: as whom; default: the image's user */
	uint64_t offset; /* read, get: bytes from the start */
	uint64_t length; /* read, get: how many bytes at most; 0: all */
	uint32_t mode; /* write, put, mkdir: permission bits of what is made; 0: the default */
	int append; /* write, put: at the end of what is there */
	int exclusive; /* write, put: nothing of that name may be there */
	int parents; /* write, put, mkdir: make the directories above it as well */
	int recursive; /* remove: a directory with all that is in it */
	int follow; /* stat: 1: the target of a symbolic link, -1: the link; 0: the default */
};

struct msb_files;
MSB_API size_t msb_files_count(const struct msb_files *f);
/* NULL: there are not so many. */
MSB_API const struct msb_file *msb_files_item(const struct msb_files *f, size_t i);
MSB_API void msb_files_free(struct msb_files *f);

/*
 * In all of them: @path is absolute; @fs may be NULL; what the sandbox refuses is
 * MSB_ERR_FILE.  @out (may be NULL, except of list, stat and read) is what was
 * made, or what was there: a list of one.
 */

/* All of a file, at most 8 MiB of it; *@data ends with a NUL that is not counted: msb_free(). */
MSB_API int msb_fs_read(struct msb_sandbox *sb, const char *path, const struct msb_fs *fs,
			struct msb_cancel *cancel, void **data, size_t *len,
			struct msb_error **err);
/* Makes or replaces a file; at most 8 MiB. */
MSB_API int msb_fs_write(struct msb_sandbox *sb, const char *path, const void *data, size_t len,
			 const struct msb_fs *fs, struct msb_cancel *cancel, struct msb_files **out,
			 struct msb_error **err);
/* What is in a directory, sorted by name. */
MSB_API int msb_fs_list(struct msb_sandbox *sb, const char *path, const struct msb_fs *fs,
			struct msb_cancel *cancel, struct msb_files **out, struct msb_error **err);
MSB_API int msb_fs_stat(struct msb_sandbox *sb, const char *path, const struct msb_fs *fs,
			struct msb_cancel *cancel, struct msb_files **out, struct msb_error **err);
MSB_API int msb_fs_mkdir(struct msb_sandbox *sb, const char *path, const struct msb_fs *fs,
			 struct msb_cancel *cancel, struct msb_files **out, struct msb_error **err);
MSB_API int msb_fs_remove(struct msb_sandbox *sb, const char *path, const struct msb_fs *fs,
			  struct msb_cancel *cancel, struct msb_files **out,
			  struct msb_error **err);
MSB_API int msb_fs_rename(struct msb_sandbox *sb, const char *path, const char *to,
			  const struct msb_fs *fs, struct msb_cancel *cancel,
			  struct msb_files **out, struct msb_error **err);

/* Takes the next bytes of a file. Return: 0; anything else ends the call with MSB_ERR_CANCELLED. */
typedef int msb_sink_fn(void *context, const void *data, size_t len);

/* Puts at most @room of the next bytes to @buf. Return: how many; 0 at the end; -1 to end the
 * call with MSB_ERR_CANCELLED. The file may then be there in part. */
typedef ptrdiff_t msb_source_fn(void *context, void *buf, size_t room);

/*
 * A file of any size, as it comes.  After a failure the sink may have had a part of it.
 * Callbacks run in the thread of the call; while they block, it cannot be cancelled.
 */
MSB_API int msb_fs_get(struct msb_sandbox *sb, const char *path, const struct msb_fs *fs,
		       msb_sink_fn *sink, void *context, struct msb_cancel *cancel,
		       struct msb_error **err);

/* Makes or replaces a file of any size. @length: bytes that the source will give; -1: not known. */
MSB_API int msb_fs_put(struct msb_sandbox *sb, const char *path, const struct msb_fs *fs,
		       int64_t length, msb_source_fn *source, void *context,
		       struct msb_cancel *cancel, struct msb_files **out, struct msb_error **err);

/* Frees what msb_fs_read() gave. */
MSB_API void msb_free(void *p);

#ifdef __cplusplus
}
#endif

#endif
