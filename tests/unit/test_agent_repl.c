/* SPDX-License-Identifier: Apache-2.0 */
/*
 * REPL_RUN with this host's interpreters.  Every way in which interactive interpreters
 * behind a prompt are known to fail (hang, lose or mix up output) is a test here.
 */
#include "unit/agent_client.h"

#include <errno.h>

#include "agent/repl.h"

static const char *path_env = "PATH=/usr/local/bin:/usr/bin:/bin";

static struct call *start(struct client *x, const char *lang, const char *code, uint64_t timeout_ms)
{
	const char *const env[] = { path_env, NULL };
	struct buf v = BUF_INIT;
	struct call *c = client_open(x);
	struct frame_repl_run req = {
		.language = frame_str_of(lang),
		.timeout_ms = timeout_ms,
		.code_len = strlen(code),
		.env = client_list(&v, env),
	};

	client_send(x, c->channel, FRAME_REPL_RUN, 0, &req);
	c->data = (const uint8_t *)code;
	c->data_len = strlen(code);
	c->eof = true;
	buf_fini(&v);
	return c;
}

static struct call *run(struct client *x, const char *lang, const char *code)
{
	struct call *c = start(x, lang, code, 0);

	client_finish(x, c);
	return c;
}

struct expected {
	const char *code, *out;
	const char *err; /* a part of it; NULL = none at all */
	uint8_t status;
};

/* One after the other in the same interpreter. */
static void expect_all(const char *lang, const struct expected *v, size_t n)
{
	struct client x;

	client_begin(&x);
	for (size_t i = 0; i < n; i++) {
		struct call *c = run(&x, lang, v[i].code);

		if (c->last != FRAME_REPL_DONE)
			fail_msg("%s: %s", v[i].code, c->text);
		if (strcmp(client_text(&c->out), v[i].out) || c->repl.status != v[i].status)
			fail_msg("%s: status %u, output '%s', errors '%s'", v[i].code,
				 c->repl.status, client_text(&c->out), client_text(&c->err));
		if (v[i].err ? !strstr(client_text(&c->err), v[i].err) : buf_len(&c->err) != 0)
			fail_msg("%s: errors '%s'", v[i].code, client_text(&c->err));
		assert_int_equal(c->repl.state_lost, v[i].status == REPL_EXITED);
		client_release(c);
	}
	client_end(&x);
}

#define EXPECT_ALL(lang, v) expect_all(lang, v, ARRAY_SIZE(v))

static void python_runs_as_at_its_prompt(void **state)
{
	static const struct expected v[] = {
		{ "1+1", "2\n", NULL, REPL_OK },
		{ "x = 5", "", NULL, REPL_OK },
		{ "x; None; 'a'", "5\n'a'\n", NULL, REPL_OK },
		{ "for i in range(2):\n  i", "0\n1\n", NULL, REPL_OK },
		{ "print(x, end='')", "5", NULL, REPL_OK },
		{ "def f():\n    a = 1\n\n    return a\nf()\nprint('after')", "1\nafter\n", NULL,
		  REPL_OK },
		{ "if x:\n\n    print('yes')\n\nelse:\n    pass", "yes\n", NULL, REPL_OK },
		{ "", "", NULL, REPL_OK },
		{ "# nothing", "", NULL, REPL_OK },
		{ "__name__", "'__main__'\n", NULL, REPL_OK },
		{ "sorted(n for n in globals() if not n.startswith('_'))", "['f', 'i', 'x']\n",
		  NULL, REPL_OK },
		{ "import sys; sys.argv", "['']\n", NULL, REPL_OK },
		{ "print('\xc3\xbc')", "\xc3\xbc\n", NULL, REPL_OK },
		{ "await __import__('asyncio').sleep(0, 'slept')", "'slept'\n", NULL, REPL_OK },
		{ "async def g():\n    return 3\nawait g()", "3\n", NULL, REPL_OK },
		{ "input()", "", "EOFError", REPL_EXCEPTION },
		{ "import subprocess\nprint('a')\nsubprocess.call(['echo', 'b'])", "a\nb\n0\n",
		  NULL, REPL_OK },
		{ "import pickle; pickle.loads(pickle.dumps(f))()", "1\n", NULL, REPL_OK },
		{ "eoe_ = 'eoe_abcdefghijklmnopqrst'; print(eoe_)", "eoe_abcdefghijklmnopqrst\n",
		  NULL, REPL_OK },
	};

	(void)state;
	EXPECT_ALL("python", v);
}

static void python_reports_errors_on_stderr(void **state)
{
	static const struct expected v[] = {
		{ "print('before')\n1/0", "before\n",
		  "Traceback (most recent call last):\n  File \"<stdin-1>\", line 2, in <module>\n"
		  "    1/0\n",
		  REPL_EXCEPTION },
		{ "def f():\n    return undefined\n", "", NULL, REPL_OK },
		{ "f()", "",
		  "  File \"<stdin-3>\", line 1, in <module>\n    f()\n"
		  "  File \"<stdin-2>\", line 2, in f\n    return undefined\n",
		  REPL_EXCEPTION },
		{ "if 1\n  pass", "", "SyntaxError", REPL_EXCEPTION },
		{ "raise KeyboardInterrupt", "", "KeyboardInterrupt", REPL_EXCEPTION },
		{ "def r(): r()\nr()", "", "RecursionError", REPL_EXCEPTION },
		{ "import sys\nsys.excepthook = lambda t, v, tb: print('hook', t.__name__)\n1/0",
		  "hook ZeroDivisionError\n", NULL, REPL_EXCEPTION },
		{ "1+1", "2\n", NULL, REPL_OK },
	};
	struct client x;
	struct call *c;

	(void)state;
	EXPECT_ALL("python", v);
	client_begin(&x);
	c = run(&x, "python", "1/0");
	assert_null(strstr(client_text(&c->err), "msb")); /* no frame of the driver */
	client_end(&x);
}

static void python_may_end_and_starts_afresh(void **state)
{
	static const struct expected v[] = {
		{ "x = 1", "", NULL, REPL_OK },
		{ "import sys; print('bye', end=''); sys.exit()", "bye", NULL, REPL_EXITED },
		{ "x", "", "NameError", REPL_EXCEPTION },
		{ "import sys; sys.exit('why')", "", "why", REPL_EXITED },
		{ "import os; os._exit(9)", "", NULL, REPL_EXITED },
		{ "import os; os.kill(os.getpid(), 9)", "", NULL, REPL_EXITED },
		{ "2", "2\n", NULL, REPL_OK },
	};
	struct client x;
	struct call *c;

	(void)state;
	EXPECT_ALL("python", v);
	client_begin(&x);
	c = run(&x, "python", "import sys; sys.exit(3)");
	assert_int_equal(c->repl.exit_code, 3);
	c = run(&x, "python", "import os; os.kill(os.getpid(), 9)");
	assert_int_equal(c->repl.exit_code, 128 + SIGKILL);
	client_end(&x);
}

static void python_children_do_not_confuse_it(void **state)
{
	static const struct expected v[] = {
		{ "import os\npid = os.fork()\nif pid: _ = os.waitpid(pid, 0)\nprint(pid == 0)",
		  "True\nFalse\n", NULL, REPL_OK },
		{ "pid = os.fork()\nif pid == 0: raise SystemExit(4)\nos.waitpid(pid, 0)[1] >> 8",
		  "4\n", NULL, REPL_OK },
		/* Descriptors of the driver are not inherited by programs. */
		{ "import subprocess\nsubprocess.call(['sh', '-c', 'echo hi >&9'], stderr=-3)",
		  "2\n", NULL, REPL_OK },
		/* Threads of an earlier call write nothing into a later one. */
		{ "import threading\ngo, done = threading.Event(), threading.Event()\n"
		  "def late():\n    go.wait()\n    print('late')\n    done.set()\n"
		  "t = threading.Thread(target=late); t.start()",
		  "", NULL, REPL_OK },
		{ "go.set(); done.wait(); print('mine')", "True\nmine\n", NULL, REPL_OK },
	};

	(void)state;
	EXPECT_ALL("python", v);
}

static void python_timeouts_interrupt_and_then_kill(void **state)
{
	struct client x;
	struct call *c;

	(void)state;
	client_begin(&x);
	c = run(&x, "python", "x = 1");
	c = start(&x, "python", "print('part')\nwhile True: pass", 1000);
	client_finish(&x, c);
	assert_int_equal(c->repl.status, REPL_TIMEOUT);
	assert_int_equal(c->repl.state_lost, 0);
	assert_string_equal(client_text(&c->out), "part\n");
	assert_non_null(strstr(client_text(&c->err), "KeyboardInterrupt"));
	assert_null(strstr(client_text(&c->err), "msb"));
	c = run(&x, "python", "x");
	assert_string_equal(client_text(&c->out), "1\n");
	c = start(&x, "python",
		  "import signal\n_ = signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
		  "print('part')\nwhile True: pass",
		  1000);
	client_finish(&x, c);
	assert_int_equal(c->repl.status, REPL_TIMEOUT);
	assert_int_equal(c->repl.state_lost, 1);
	assert_string_equal(client_text(&c->out), "part\n");
	c = run(&x, "python", "x");
	assert_non_null(strstr(client_text(&c->err), "NameError"));
	client_end(&x);
}

static void node_runs_as_at_its_prompt(void **state)
{
	static const struct expected v[] = {
		{ "1+1", "2\n", NULL, REPL_OK },
		{ "let a = 1; const b = { x: 2 }; var c; function f() { return 9 } class K {}", "",
		  NULL, REPL_OK },
		{ "b", "{ x: 2 }\n", NULL, REPL_OK },
		{ "a + f(), new K()", "K {}\n", NULL, REPL_OK },
		{ "let a = 5; a", "5\n", NULL, REPL_OK },
		{ "'s'", "'s'\n", NULL, REPL_OK },
		{ "({ y: -0, n: 10n })", "{ y: -0, n: 10n }\n", NULL, REPL_OK },
		{ "[1, 2]\n  .map((v) => v * 2)\n  .join()", "'2,4'\n", NULL, REPL_OK },
		{ "process.stdout.write('no newline'); undefined", "no newline", NULL, REPL_OK },
		{ "console.log(''); console.log('> x'); console.log('.. y')", "\n> x\n.. y\n", NULL,
		  REPL_OK },
		{ "console.error('e'); console.log('o')", "o\n", "e\n", REPL_OK },
		/* Handles are not echoed. */
		{ "clearTimeout(1); setTimeout(() => {}, 1)", "", NULL, REPL_OK },
		{ "require('http').createServer()", "", NULL, REPL_OK },
		{ "const p = await Promise.resolve(7); p", "7\n", NULL, REPL_OK },
		{ "p", "7\n", NULL, REPL_OK },
		{ "await new Promise((r) => setTimeout(() => { console.log('in time'); r() }, 20))",
		  "in time\n", NULL, REPL_OK },
		{ "for await (const v of [1, 2]) console.log(v)", "1\n2\n", NULL, REPL_OK },
		{ "const { join } = require('path'); join('a', 'b')", "'a/b'\n", NULL, REPL_OK },
		{ "typeof (await import('os')).cpus", "'function'\n", NULL, REPL_OK },
		{ "`import(\"x\") ${await import('fs') && 1} import(` + "
		  "/import\\(\"/.source.length",
		  "'import(\"x\") 1 import(9'\n", NULL, REPL_OK },
		{ "fs.existsSync('/')", "true\n", NULL, REPL_OK },
		{ "process.stdin.read()", "null\n", NULL, REPL_OK },
	};

	(void)state;
	EXPECT_ALL("node", v);
}

static void node_reports_errors_on_stderr(void **state)
{
	static const struct expected v[] = {
		{ "throw new Error('boom')", "", "Uncaught Error: boom\n    at REPL1:1:7\n",
		  REPL_EXCEPTION },
		{ "throw 5", "", "Uncaught 5", REPL_EXCEPTION },
		{ "let z = ;", "", "REPL3:1\nlet z = ;\n        ^\n", REPL_EXCEPTION },
		{ "null.x", "", "TypeError", REPL_EXCEPTION },
		{ "await Promise.reject(new Error('awaited'))", "", "awaited", REPL_EXCEPTION },
		{ "Promise.reject(new Error('nobody waits')); 1", "1\n", "nobody waits",
		  REPL_EXCEPTION },
		{ "({ get x() { throw new Error('getter') } }).x", "", "getter", REPL_EXCEPTION },
		{ "({ [require('util').inspect.custom]() { throw new Error('inspect') } })", "",
		  "inspect", REPL_EXCEPTION },
		{ "1", "1\n", NULL, REPL_OK },
	};
	struct client x;
	struct call *c;

	(void)state;
	EXPECT_ALL("javascript", v);
	client_begin(&x);
	c = run(&x, "node", "throw new Error('boom')");
	assert_null(strstr(client_text(&c->err), "msb")); /* no frame of the driver */
	assert_null(strstr(client_text(&c->err), "inspector"));
	client_end(&x);
}

static void node_late_output_reaches_no_later_call(void **state)
{
	static const struct expected v[] = {
		{ "globalThis.go = []; new Promise((r) => go.push(r)).then(() => "
		  "console.log('late'))"
		  ".then(() => { throw new Error('late too') }); 0",
		  "0\n", NULL, REPL_OK },
		{ "setTimeout(() => { console.log('late'); throw new Error('late') }, 1); 0", "0\n",
		  NULL, REPL_OK },
		{ "go[0](); await new Promise((r) => setTimeout(r, 50)); 'mine'", "'mine'\n", NULL,
		  REPL_OK },
		{ "2", "2\n", NULL, REPL_OK },
	};

	(void)state;
	EXPECT_ALL("nodejs", v);
}

static void node_timeouts_interrupt_and_then_kill(void **state)
{
	struct client x;
	struct call *c;

	(void)state;
	client_begin(&x);
	run(&x, "node", "const kept = 1");
	for (int i = 0; i < 2; i++) {
		c = start(&x, "node",
			  i ? "await new Promise(() => {})" : "console.log('part'); for (;;);",
			  300);
		client_finish(&x, c);
		assert_int_equal(c->repl.status, REPL_TIMEOUT);
		assert_int_equal(c->repl.state_lost, 0);
		assert_string_equal(client_text(&c->out), i ? "" : "part\n");
		c = run(&x, "node", "kept");
		assert_string_equal(client_text(&c->out), "1\n");
	}
	c = start(&x, "node", "await null; for (;;);", 1000);
	client_finish(&x, c);
	assert_int_equal(c->repl.status, REPL_TIMEOUT);
	assert_int_equal(c->repl.state_lost, 1);
	client_release(c);
	c = run(&x, "node", "typeof kept");
	assert_string_equal(client_text(&c->out), "'undefined'\n");
	client_release(c);
	c = run(&x, "node", "console.log('x'.repeat(200000)); process.exit(4)");
	assert_int_equal(c->repl.status, REPL_EXITED);
	assert_int_equal(c->repl.exit_code, 4);
	assert_int_equal(buf_len(&c->out), 200001);
	client_end(&x);
}

static const struct expected shell_cases[] = {
	{ "echo hi", "hi\n", NULL, REPL_OK },
	{ "x=3; cd /tmp; f() { echo f$1; }", "", NULL, REPL_OK },
	{ "echo $x; pwd; f 2", "3\n/tmp\nf2\n", NULL, REPL_OK },
	{ "printf nonl; echo e >&2", "nonl", "e\n", REPL_OK },
	{ "read line; echo \"[$line]\"", "[]\n", NULL, REPL_OK },
	{ "cat <<E\nhere\nE", "here\n", NULL, REPL_OK },
	{ "break; echo on", "on\n", "", REPL_OK },
	{ "return 5; echo not", "", NULL, REPL_OK },
	{ "if then", "", "yntax error", REPL_EXCEPTION },
	{ "echo 'open", "", "", REPL_EXCEPTION },
	{ "echo last # comment", "last\n", NULL, REPL_OK },
	{ "", "", NULL, REPL_OK },
	{ "sh -c 'echo child'", "child\n", NULL, REPL_OK },
	{ "exit 3", "", NULL, REPL_EXITED },
	{ "echo \"<$x>\"", "<>\n", NULL, REPL_OK },
	{ "set -e; false", "", NULL, REPL_EXITED },
};

static void shells_keep_their_state(void **state)
{
	struct client x;
	struct call *c;

	(void)state;
	EXPECT_ALL("sh", shell_cases);
	client_begin(&x);
	c = run(&x, "Bash", "(exit 42)"); /* a status is no exception */
	assert_int_equal(c->repl.status, REPL_OK);
	assert_int_equal(c->repl.exit_code, 42);
	c = run(&x, "shell", "exit 7");
	assert_int_equal(c->repl.exit_code, 7);
	run(&x, "sh", "x=kept");
	c = start(&x, "sh", "echo part; while :; do sleep 0.05; done", 1000);
	client_finish(&x, c);
	assert_int_equal(c->repl.status, REPL_TIMEOUT);
	assert_string_equal(client_text(&c->out), "part\n");
	client_release(c);
	/* And again, in a loop without a child. */
	c = start(&x, "sh", "while :; do :; done", 1000);
	client_finish(&x, c);
	assert_int_equal(c->repl.status, REPL_TIMEOUT);
	assert_int_equal(c->repl.state_lost, 0);
	client_release(c);
	c = run(&x, "sh", "echo $x");
	assert_string_equal(client_text(&c->out), "kept\n");
	client_end(&x);
}

/* With a PATH in which there is only a POSIX shell. */
static void a_shell_need_not_be_bash(void **state)
{
	static const char *const programs[][2] = { { "/bin/dash", "sh" }, { "/bin/cat", "cat" } };
	char dir[] = "/tmp/msb-test-repl-XXXXXX", path[64], env[64];
	const char *before = path_env;

	(void)state;
	assert_int_equal(access("/bin/dash", X_OK), 0);
	assert_non_null(mkdtemp(dir));
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, programs[i][1]);
		assert_int_equal(symlink(programs[i][0], path), 0);
	}
	snprintf(env, sizeof(env), "PATH=%s", dir);
	path_env = env;
	EXPECT_ALL("sh", shell_cases);
	path_env = before;
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, programs[i][1]);
		unlink(path);
	}
	rmdir(dir);
}

static void calls_queue_in_one_language_only(void **state)
{
	struct client x;
	struct call *first, *second, *other;

	(void)state;
	client_begin(&x);
	first = start(&x, "python", "input_ = 1\nprint('first')\nwhile True: pass", 0);
	client_await_output(&x, first, 6);
	second = start(&x, "python", "print('second', input_)", 0);
	other = run(&x, "sh", "echo other");
	assert_string_equal(client_text(&other->out), "other\n");
	assert_int_equal(second->last, 0);
	/* CLOSE interrupts the first; its output after that is dropped, its end is told. */
	client_send(&x, first->channel, FRAME_CLOSE, 0, NULL);
	client_finish(&x, second);
	assert_int_equal(first->last, FRAME_REPL_DONE);
	assert_int_equal(first->repl.status, REPL_TIMEOUT);
	assert_string_equal(client_text(&second->out), "second 1\n");
	client_end(&x);
}

static void a_waiting_call_can_be_closed(void **state)
{
	struct client x;
	struct call *first, *second;

	(void)state;
	client_begin(&x);
	first = start(&x, "sh", "echo first; sleep 1000", 0);
	client_await_output(&x, first, 6);
	second = start(&x, "sh", "echo second", 0);
	for (int i = 0; i < CLIENT_CALLS; i++)
		if (x.calls[i].channel)
			client_feed(&x, &x.calls[i]);
	client_send(&x, second->channel, FRAME_CLOSE, 0, NULL);
	client_finish(&x, second);
	assert_int_equal(second->last, FRAME_REPL_DONE);
	assert_int_equal(first->last, 0);
	client_send(&x, first->channel, FRAME_CLOSE, 0, NULL);
	client_finish(&x, first);
	assert_int_equal(first->last, FRAME_REPL_DONE);
	client_end(&x);
}

static void large_code_and_large_output_pass(void **state)
{
	enum { SIZE = 1000000 };
	auto_free char *code = malloc(SIZE + 64);
	struct client x;
	struct call *c;
	size_t n;

	(void)state;
	n = (size_t)sprintf(code, "s = '");
	memset(code + n, 'a', SIZE);
	strcpy(code + n + SIZE, "'\nprint(s)\nlen(s)");
	client_begin(&x);
	c = start(&x, "python", code, 0);
	client_finish(&x, c);
	assert_int_equal(c->repl.status, REPL_OK);
	assert_int_equal(buf_len(&c->out), SIZE + 1 + 8);
	client_end(&x);
}

/* A call whose client does not read ends when it reads again, with all its output. */
static void output_waits_for_credit(void **state)
{
	struct frame_credit credit;
	struct client x;
	struct call *c, *other;

	(void)state;
	client_begin(&x);
	c = start(&x, "python", "print('x' * 299999)", 0);
	c->no_credit = true;
	client_await_output(&x, c, FRAME_WINDOW);
	other = run(&x, "sh", "echo other");
	assert_string_equal(client_text(&other->out), "other\n");
	assert_int_equal(c->last, 0);
	c->no_credit = false;
	credit.bytes = c->owed[STREAM_OUT];
	client_send(&x, c->channel, FRAME_CREDIT, STREAM_OUT, &credit);
	client_finish(&x, c);
	assert_int_equal(buf_len(&c->out), 300000);
	client_end(&x);
}

static void bad_requests_are_refused(void **state)
{
	struct frame_repl_run req = { .language = frame_str_of("python"), .code_len = 1 };
	const char *const nowhere[] = { "PATH=/nowhere", NULL };
	struct buf v = BUF_INIT;
	struct client x;
	struct call *c;

	(void)state;
	client_begin(&x);
	c = run(&x, "ruby", "1");
	assert_int_equal(c->code, EINVAL);
	assert_non_null(strstr(c->text, "unsupported language 'ruby'"));

	c = client_open(&x);
	req.code_len = FRAME_REPL_CODE_MAX + 1;
	client_send(&x, c->channel, FRAME_REPL_RUN, 0, &req);
	client_finish(&x, c);
	assert_int_equal(c->code, EMSGSIZE);

	/* Less code than announced. */
	c = client_open(&x);
	req.code_len = 5;
	client_send(&x, c->channel, FRAME_REPL_RUN, 0, &req);
	c->eof = true;
	client_finish(&x, c);
	assert_int_equal(c->code, EPROTO);

	/* No interpreter: which one was looked for, and where. */
	c = client_open(&x);
	req.code_len = 0;
	req.env = client_list(&v, nowhere);
	client_send(&x, c->channel, FRAME_REPL_RUN, 0, &req);
	c->eof = true;
	client_finish(&x, c);
	assert_int_equal(c->code, ENOENT);
	assert_non_null(strstr(c->text, "looked for python3 or python in PATH (/nowhere)"));
	buf_fini(&v);
	client_end(&x);
}

static void reports_are_parsed_strictly(void **state)
{
	static const char *const bad[] = { "",       "1",      "1 2",   "1 2 ",   "1 2 3 ",
					   " 1 2 3", "1  2 3", "a 2 3", "1 2 -3", "4294967296 0 0",
					   "1 2 3x" };
	struct repl_report r;

	(void)state;
	assert_int_equal(repl_parse_report("7 1 4294967295", 14, &r), 0);
	assert_int_equal(r.call, 7);
	assert_int_equal(r.status, 1);
	assert_int_equal(r.value, UINT32_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(repl_parse_report(bad[i], strlen(bad[i]), &r), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(python_runs_as_at_its_prompt),
		TEST(python_reports_errors_on_stderr),
		TEST(python_may_end_and_starts_afresh),
		TEST(python_children_do_not_confuse_it),
		TEST(python_timeouts_interrupt_and_then_kill),
		TEST(node_runs_as_at_its_prompt),
		TEST(node_reports_errors_on_stderr),
		TEST(node_late_output_reaches_no_later_call),
		TEST(node_timeouts_interrupt_and_then_kill),
		TEST(shells_keep_their_state),
		TEST(a_shell_need_not_be_bash),
		TEST(calls_queue_in_one_language_only),
		TEST(a_waiting_call_can_be_closed),
		TEST(large_code_and_large_output_pass),
		TEST(output_waits_for_credit),
		TEST(bad_requests_are_refused),
		TEST(reports_are_parsed_strictly),
	};

	return test_run(tests);
}
