/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The results of REPL_RUN, with this host's interpreters: values, pictures, and code that
 * misbehaves while they are made.
 */
#include "unit/agent_client.h"

#include <errno.h>

#include "agent/results.h"

static struct call *start(struct client *x, const char *lang, const char *code, uint32_t flags)
{
	const char *const env[] = { "PATH=/usr/local/bin:/usr/bin:/bin", NULL };
	struct buf v = BUF_INIT;
	struct call *c = client_open(x);
	struct frame_repl_run req = {
		.language = frame_str_of(lang),
		.code_len = strlen(code),
		.env = client_list(&v, env),
		.flags = flags,
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
	struct call *c = start(x, lang, code, REPL_RESULTS);

	client_finish(x, c);
	assert_int_equal(c->last, FRAME_REPL_DONE);
	return c;
}

struct expected {
	const char *code;
	const char *out; /* standard output */
	const char *results; /* "mime=data\n" or "mime!note\n" for each */
	uint8_t status;
};

static void print_results(struct call *c, struct buf *to)
{
	for (unsigned i = 0; i < c->n_results; i++) {
		struct client_result *r = &c->results[i];

		assert_int_equal(buf_len(&r->data), r->size);
		buf_append(to, r->mime, strlen(r->mime));
		buf_append(to, r->note[0] ? "!" : "=", 1);
		buf_append(to, r->note, strlen(r->note));
		buf_append(to, buf_data(&r->data), buf_len(&r->data));
		assert_int_equal(buf_append(to, "\n", 1), 0);
	}
}

static void expect_all(const char *lang, const struct expected *v, size_t n)
{
	struct client x;

	client_begin(&x);
	for (size_t i = 0; i < n; i++) {
		struct call *c = run(&x, lang, v[i].code);
		struct buf got = BUF_INIT;

		print_results(c, &got);
		if (strcmp(client_text(&got), v[i].results) || c->repl.status != v[i].status ||
		    strcmp(client_text(&c->out), v[i].out))
			fail_msg("%s: status %u, output '%s', errors '%s', results '%s'", v[i].code,
				 c->repl.status, client_text(&c->out), client_text(&c->err),
				 client_text(&got));
		buf_fini(&got);
		client_release(c);
	}
	client_end(&x);
}

#define EXPECT_ALL(lang, v) expect_all(lang, v, ARRAY_SIZE(v))

static void python_shows_the_last_value(void **state)
{
	static const struct expected v[] = {
		{ "1+1", "2\n", "text/plain=2\n", REPL_OK },
		{ "x = 5", "", "", REPL_OK },
		{ "None", "", "", REPL_OK },
		{ "1; 2; 'a\\nb'", "1\n2\n'a\\nb'\n", "text/plain='a\\nb'\n", REPL_OK },
		{ "7\ny = 1", "7\n", "", REPL_OK },
		{ "7\nNone", "7\n", "", REPL_OK },
		{ "for i in range(2): i", "0\n1\n", "", REPL_OK },
		{ "print('p')", "p\n", "", REPL_OK },
		{ "await __import__('asyncio').sleep(0, 'slept')", "'slept'\n",
		  "text/plain='slept'\n", REPL_OK },
		{ "1/0", "", "", REPL_EXCEPTION },
		{ "_ + 'x'", "'sleptx'\n", "text/plain='sleptx'\n", REPL_OK },
		{ "display(3, 'b'); 4\n1/0", "3\n'b'\n4\n", "text/plain=3\ntext/plain='b'\n",
		  REPL_EXCEPTION },
		/* A displayhook of the user's own takes the value. */
		{ "import sys\nsys.displayhook = lambda v: print('mine', v)\n5", "mine 5\n", "",
		  REPL_OK },
		{ "5", "mine 5\n", "", REPL_OK },
		{ "sys.displayhook = sys.__displayhook__", "", "", REPL_OK },
		{ "5", "5\n", "text/plain=5\n", REPL_OK },
	};

	(void)state;
	EXPECT_ALL("python", v);
}

static void python_shows_what_values_show_of_themselves(void **state)
{
	static const struct expected v[] = {
		{ "class P:\n"
		  "    def __repr__(self): return 'P'\n"
		  "    def _repr_html_(self): return '<b>\xc3\xbc</b>'\n"
		  "    def _repr_png_(self): return b'PNG'\n"
		  "    def _repr_jpeg_(self): return 'SlBH', {'width': 3}\n"
		  "    def _repr_svg_(self): return '<svg/>'\n"
		  "    def _repr_markdown_(self): return None\n"
		  "    def _repr_latex_(self): return '$x$'\n"
		  "    def _repr_json_(self): return {'a': [1]}\n"
		  "P()",
		  "P\n",
		  "text/plain=P\ntext/html=<b>\xc3\xbc</b>\nimage/svg+xml=<svg/>\nimage/png=PNG\n"
		  "image/jpeg=JPG\ntext/latex=$x$\napplication/json={\"a\": [1]}\n",
		  REPL_OK },
		{ "P", "<class '__main__.P'>\n", "text/plain=<class '__main__.P'>\n", REPL_OK },
		{ "class B:\n"
		  "    def __repr__(self): return 'B'\n"
		  "    def _repr_html_(self): return 'method'\n"
		  "    def _repr_mimebundle_(self, include, exclude):\n"
		  "        return {'text/plain': 'no', 'text/html': 'bundle', 'image/png': "
		  "'UE5H',\n"
		  "                'application/vnd.x+json': {}, 'no type': b'x'}, {}\n"
		  "display(B())",
		  "B\n",
		  "text/plain=B\ntext/html=bundle\nimage/png=PNG\napplication/vnd.x+json={}\n"
		  "application/octet-stream!not a MIME type: 'no type'\n",
		  REPL_OK },
		/* An object that has an answer to every name. */
		{ "class A:\n    def __getattr__(self, n): return lambda *a, **k: 'any'\n"
		  "    def __repr__(self): return 'A'\nA()",
		  "A\n", "text/plain=A\n", REPL_OK },
	};

	(void)state;
	EXPECT_ALL("python", v);
}

static void python_code_that_misbehaves_breaks_nothing(void **state)
{
	static const struct expected v[] = {
		{ "class R:\n    def __repr__(self): raise ValueError('no')\nR()", "", "",
		  REPL_EXCEPTION },
		{ "class H:\n    def __repr__(self): print('in repr'); return 'H'\n"
		  "    def _repr_html_(self): raise ValueError('why')\n"
		  "    def _repr_png_(self): return 'no base64!'\n"
		  "    def _repr_json_(self): return {1, 2}\n"
		  "    def _repr_svg_(self): return 5\n"
		  "    def _repr_latex_(self): print('in latex'); return self._repr_latex_()\nH()",
		  NULL, NULL, REPL_OK },
		{ "class M:\n    def __repr__(self): return 'M'\n"
		  "    def _repr_mimebundle_(self): return 1\nM()",
		  "M\n", NULL, REPL_OK },
		/* Too large: said, and the next has its place. */
		{ "class L(bytes):\n    def __repr__(self): return 'L'\n"
		  "    def _repr_png_(self): return bytes(self)\n"
		  "display(L(9 << 20), L(b'small'))",
		  "L\nL\n",
		  "text/plain=L\nimage/png!left out: 9437184 bytes, the results of a call have "
		  "8388608\n"
		  "text/plain=L\nimage/png=small\n",
		  REPL_OK },
		/* A process of the call's that is not the interpreter. */
		{ "import os\npid = os.fork()\nif pid == 0: display(1); os._exit(0)\n"
		  "_ = os.waitpid(pid, 0)\n2",
		  "1\n2\n", "text/plain=2\n", REPL_OK },
		/* Threads of this call show, those of an earlier one do not. */
		{ "import threading\ngo, done = threading.Event(), threading.Event()\n"
		  "def late():\n    display(1)\n    go.wait()\n    display(2)\n    done.set()\n"
		  "t = threading.Thread(target=late); t.start(); import time\n"
		  "while not hasattr(t, 'x') and t.is_alive() and not go.is_set():\n"
		  "    time.sleep(0.05); t.x = 1",
		  "1\n", "text/plain=1\n", REPL_OK },
		{ "go.set(); done.wait(); 3", "True\n3\n", "text/plain=3\n", REPL_OK },
		{ "import sys; display(1); sys.exit(0)", "1\n", "text/plain=1\n", REPL_EXITED },
		{ "import os; display(1); os.kill(os.getpid(), 9)", "1\n", "text/plain=1\n",
		  REPL_EXITED },
		{ "6", "6\n", "text/plain=6\n", REPL_OK },
	};
	struct client x;
	struct call *c;
	struct buf got = BUF_INIT;

	(void)state;
	expect_all("python", v, 1);
	expect_all("python", v + 3, ARRAY_SIZE(v) - 3);
	client_begin(&x);
	c = run(&x, "python", v[1].code);
	print_results(c, &got);
	assert_int_equal(c->repl.status, REPL_OK);
	assert_non_null(strstr(client_text(&got),
			       "text/plain=H\ntext/html!_repr_html_ raised "
			       "ValueError: why\nimage/svg+xml!_repr_svg_ raised "
			       "TypeError: expected bytes or str, not int\n"
			       "image/png!_repr_png_ raised ValueError: neither "
			       "bytes nor base64\n"));
	assert_non_null(strstr(client_text(&got), "text/latex!_repr_latex_ raised RecursionError"));
	assert_non_null(strstr(client_text(&got), "application/json!_repr_json_ raised TypeError"));
	buf_reset(&got);
	c = run(&x, "python", v[2].code);
	print_results(c, &got);
	assert_non_null(strstr(client_text(&got),
			       "text/plain=M\ntext/plain!_repr_mimebundle_ raised "
			       "TypeError"));
	buf_fini(&got);
	/* The frames of the driver are not the user's. */
	c = run(&x, "python", "class R:\n    def __repr__(self): return self.gone\ndisplay(R())");
	assert_null(strstr(client_text(&c->err), "msb"));
	assert_non_null(strstr(client_text(&c->err), "line 2, in __repr__"));
	client_end(&x);
}

/* What is no entry ends the results; the call has its end, the next its results. */
static void whoever_writes_into_the_results_spoils_only_them(void **state)
{
	static const struct expected v[] = {
		{ "import os\n_ = os.pwrite(8, b'\\xff' * 4096, 0)\n_ = os.write(9, b'1 3 "
		  "4096\\n')",
		  "", "", REPL_OK },
		{ "_ = os.write(9, b'2 3 4294967295\\n')\nos.ftruncate(8, 1 << 40)", "", "",
		  REPL_OK },
		/* An entry that says it is larger than the file, or than a call may have. */
		{ "import struct\n"
		  "def entry(mime, size): h = struct.pack('<I', len(mime)) + mime + "
		  "struct.pack('<QI', size, 0); return struct.pack('<I', len(h)) + h\n"
		  "e = entry(b'a/b', 100); _ = os.pwrite(8, e, 0)\n"
		  "_ = os.write(9, b'3 3 %d\\n' % len(e))",
		  "", "", REPL_OK },
		{ "e = entry(b'a/b', (8 << 20) + 1)\n_ = os.pwrite(8, e, 0), os.ftruncate(8, 1 << "
		  "30)\n"
		  "_ = os.write(9, b'4 3 %d\\n' % (1 << 30))",
		  "", "", REPL_OK },
		{ "e = entry(b'a b/c', 0) ; _ = os.pwrite(8, e, 0)\n"
		  "_ = os.write(9, b'5 3 %d\\n' % len(e))",
		  "", "", REPL_OK },
		{ "e = entry(b'a/b', 2) + b'hi'; _ = os.pwrite(8, e, 0)\n"
		  "_ = os.write(9, b'6 3 %d\\n' % len(e))",
		  "", "a/b=hi\n", REPL_OK },
		{ "'after'", "'after'\n", "text/plain='after'\n", REPL_OK },
	};

	(void)state;
	EXPECT_ALL("python", v);
}

static void results_are_bounded_in_number(void **state)
{
	struct client x;
	struct call *c;

	(void)state;
	client_begin(&x);
	for (int i = 0; i < 2; i++) {
		c = i ? run(&x, "node", "for (let i = 0; i < 100; i++) display(i)")
		      : run(&x, "python", "for i in range(100): display(i)");
		assert_int_equal(c->repl.status, REPL_OK);
		assert_int_equal(c->n_results, FRAME_RESULTS_MAX);
		assert_string_equal(c->results[63].note,
				    "more than 63 results: the others are left out");
		client_release(c);
	}
	/* The agent counts too: 100 empty entries, one after the other. */
	c = run(&x, "python",
		"import os, struct\n"
		"h = struct.pack('<I', 3) + b'a/b' + struct.pack('<QI', 0, 0)\n"
		"e = (struct.pack('<I', len(h)) + h) * 100\n"
		"_ = os.pwrite(8, e, 0), os.write(9, b'2 3 %d\\n' % len(e))");
	assert_int_equal(c->repl.status, REPL_OK);
	assert_int_equal(c->n_results, FRAME_RESULTS_MAX);
	client_end(&x);
}

static void results_come_only_to_who_asks(void **state)
{
	static const char *const langs[] = { "python", "node", "sh" };
	struct client x;

	(void)state;
	client_begin(&x);
	for (size_t i = 0; i < ARRAY_SIZE(langs); i++) {
		struct call *c = start(&x, langs[i], i == 2 ? "echo 1" : "1", 0);

		client_finish(&x, c);
		assert_int_equal(c->n_results, 0);
		assert_string_equal(client_text(&c->out), "1\n");
		client_release(c);
	}
	/* A shell has none, whoever asks. */
	assert_int_equal(run(&x, "sh", "echo 1")->n_results, 0);
	client_end(&x);
}

/* More than a window: waits for credit, holds up no other, and arrives whole. */
static void results_wait_for_credit(void **state)
{
	struct frame_credit credit;
	struct client x;
	struct call *c, *other;

	(void)state;
	client_begin(&x);
	c = start(&x, "python",
		  "class P:\n    def __repr__(self): return 'P'\n"
		  "    def _repr_png_(self): return bytes(range(250)) * 20000\n"
		  "print('go')\nP()",
		  REPL_RESULTS);
	c->no_credit = true;
	client_await_output(&x, c, 5);
	while (c->owed[STREAM_RESULT] < FRAME_WINDOW)
		client_release(run(&x, "sh", ":"));
	other = run(&x, "sh", "echo other");
	assert_string_equal(client_text(&other->out), "other\n");
	assert_int_equal(c->last, 0);
	assert_int_equal(c->owed[STREAM_RESULT], FRAME_WINDOW);
	c->no_credit = false;
	credit.bytes = c->owed[STREAM_RESULT];
	client_send(&x, c->channel, FRAME_CREDIT, STREAM_RESULT, &credit);
	client_finish(&x, c);
	assert_int_equal(c->repl.status, REPL_OK);
	assert_int_equal(c->n_results, 2);
	assert_int_equal(buf_len(&c->results[1].data), 5000000);
	for (size_t i = 0; i < 5000000; i++)
		if (buf_data(&c->results[1].data)[i] != i % 250)
			fail_msg("byte %zu", i);
	client_end(&x);
}

static void a_call_can_be_closed_while_it_sends_results(void **state)
{
	struct client x;
	struct call *c;

	(void)state;
	client_begin(&x);
	c = start(&x, "python",
		  "class P:\n    def __repr__(self): return 'P'\n"
		  "    def _repr_png_(self): return bytes(5000000)\nkept = 1\nP()",
		  REPL_RESULTS);
	c->no_credit = true;
	while (c->owed[STREAM_RESULT] < FRAME_WINDOW)
		client_release(run(&x, "sh", ":"));
	client_send(&x, c->channel, FRAME_CLOSE, 0, NULL);
	client_finish(&x, c);
	assert_int_equal(c->last, FRAME_REPL_DONE);
	client_release(c);
	c = run(&x, "python", "kept");
	assert_string_equal(client_text(&c->out), "1\n");
	assert_int_equal(c->n_results, 1);
	client_end(&x);
}

/* As much of matplotlib as the driver touches, in a package that is really imported. */
static const char fake_matplotlib[] =
	"import os, sys, tempfile\n"
	"d = tempfile.mkdtemp(); p = os.path.join(d, 'matplotlib'); os.mkdir(p)\n"
	"_ = open(p + '/__init__.py', 'w').write('backend = "
	"__import__(\"os\").environ[\"MPLBACKEND\"]')\n"
	"_ = open(p + '/figure.py', 'w').write('''\n"
	"class Figure:\n"
	"    def __init__(self, n): self.n, self.text = n, ''\n"
	"    def __repr__(self): return 'Figure %d' % self.n\n"
	"    def savefig(self, out, format, bbox_inches):\n"
	"        if self.text == 'bad': raise RuntimeError('cannot draw')\n"
	"        out.write(('%s %d %s' % (format, self.n, self.text)).encode())\n"
	"''')\n"
	"_ = open(p + '/pyplot.py', 'w').write('''\n"
	"import matplotlib\n"
	"from matplotlib.figure import Figure\n"
	"figures = {}\n"
	"def get_backend(): return matplotlib.backend\n"
	"def get_fignums(): return sorted(figures)\n"
	"def figure(n=None): return figures.setdefault(n or len(figures) + 1, Figure(n or "
	"len(figures) + 1))\n"
	"def plot(text): figure(1).text += text\n"
	"def close(what): figures.clear()\n"
	"def show(): print('window')\n"
	"''')\n"
	"sys.path.insert(0, d)\n";

static void python_shows_figures(void **state)
{
	static const struct expected v[] = {
		{ fake_matplotlib, "", "", REPL_OK },
		{ "import matplotlib.pyplot as plt\nplt.plot('a')", "",
		  "text/plain=Figure 1\nimage/png=png 1 a\n", REPL_OK },
		/* They were closed. */
		{ "plt.get_fignums()", "[]\n", "text/plain=[]\n", REPL_OK },
		{ "plt.figure().text = 'x'; plt.figure().text = 'y'; 3", "3\n",
		  "text/plain=3\ntext/plain=Figure 1\nimage/png=png 1 x\n"
		  "text/plain=Figure 2\nimage/png=png 2 y\n",
		  REPL_OK },
		/* show() begins a new figure. */
		{ "plt.plot('a'); plt.show(); plt.plot('b'); plt.show(); 4", "4\n",
		  "text/plain=Figure 1\nimage/png=png 1 a\ntext/plain=Figure 1\nimage/png=png 1 b\n"
		  "text/plain=4\n",
		  REPL_OK },
		/* As a value, and then not again. */
		{ "plt.figure()", "Figure 1\n", "text/plain=Figure 1\nimage/png=png 1 \n", REPL_OK },
		{ "plt.plot('bad')", "",
		  "text/plain=Figure 1\nimage/png!savefig raised RuntimeError: cannot draw\n",
		  REPL_OK },
		{ "plt.plot('part'); 1/0", "", "text/plain=Figure 1\nimage/png=png 1 part\n",
		  REPL_EXCEPTION },
		{ "plt.get_fignums = 5; plt.plot('x')", "",
		  "image/png!matplotlib raised TypeError: 'int' object is not callable\n", REPL_OK },
		/* Another backend looks after its figures itself. */
		{ "import matplotlib; matplotlib.backend = 'qt'\nplt.plot('x'); plt.show()",
		  "window\n", "", REPL_OK },
		{ "import shutil; shutil.rmtree(d)", "", "", REPL_OK },
	};

	(void)state;
	EXPECT_ALL("python", v);
}

static void node_shows_the_last_value(void **state)
{
	static const struct expected v[] = {
		{ "1+1", "2\n", "text/plain=2\n", REPL_OK },
		{ "let a = 5; a", "5\n", "text/plain=5\n", REPL_OK },
		{ "'s'", "'s'\n", "text/plain='s'\n", REPL_OK },
		{ "undefined", "", "", REPL_OK },
		{ "null", "null\n", "text/plain=null\n", REPL_OK },
		{ "-0", "-0\n", "text/plain=-0\n", REPL_OK },
		{ "let big = 10n; big", "10n\n", "text/plain=10n\n", REPL_OK },
		{ "setTimeout(() => {}, 1)", "", "", REPL_OK },
		{ "({ a: [1, 'x'] })", "{ a: [ 1, 'x' ] }\n",
		  "text/plain={ a: [ 1, 'x' ] }\napplication/json={\"a\":[1,\"x\"]}\n", REPL_OK },
		{ "const list = [1, 2]; list", "[ 1, 2 ]\n",
		  "text/plain=[ 1, 2 ]\napplication/json=[1,2]\n", REPL_OK },
		{ "({ n: 1n })", "{ n: 1n }\n", "text/plain={ n: 1n }\n", REPL_OK },
		{ "new Map()", "Map(0) {}\n", "text/plain=Map(0) {}\n", REPL_OK },
		{ "new Proxy({}, { get() { throw 1 } })", "{}\n", "text/plain={}\n", REPL_OK },
		{ "display({ b: 1 }); 2", "{ b: 1 }\n2\n",
		  "text/plain={ b: 1 }\napplication/json={\"b\":1}\ntext/plain=2\n", REPL_OK },
		{ "class P { [Symbol.for('Jupyter.display')]() { return { 'image/png': 'UE5H', "
		  "'text/html': '<b>', 'a/b': Buffer.from('raw'), 'x/y+json': { z: 1 }, bad: 1 } } "
		  "}\n"
		  "new P()",
		  "P {}\n",
		  "text/plain=P {}\nimage/png=PNG\ntext/html=<b>\na/b=raw\nx/y+json={\"z\":1}\n"
		  "application/octet-stream!not a MIME type: bad\n",
		  REPL_OK },
		{ "class Q { async [Symbol.for('Jupyter.display')]() { await null; "
		  "return { 'text/html': 'later' } } }; display(new Q()); new Q()",
		  "Q {}\nQ {}\n",
		  "text/plain=Q {}\ntext/plain=Q {}\ntext/html=later\ntext/html=later\n", REPL_OK },
		{ "throw 1", "", "", REPL_EXCEPTION },
		{ "display({ [Symbol.for('Jupyter.display')]: () => ({ 'a/b': Buffer.alloc(9e6), "
		  "'a/c': 'eA==' }) })",
		  "{ [Symbol(Jupyter.display)]: [Function: [Jupyter.display]] }\n",
		  "text/plain={ [Symbol(Jupyter.display)]: [Function: [Jupyter.display]] }\n"
		  "a/b!left out: 9000000 bytes, the results of a call have 8388608\na/c=x\n",
		  REPL_OK },
	};
	struct client x;
	struct call *c;

	(void)state;
	EXPECT_ALL("node", v);
	client_begin(&x);
	c = run(&x, "node", "({ get [Symbol.for('Jupyter.display')]() { throw new Error('no') } })");
	assert_int_equal(c->repl.status, REPL_OK);
	assert_int_equal(c->n_results, 2);
	assert_non_null(strstr(c->results[1].note, "Jupyter.display: Error: no"));
	client_end(&x);
}

/* Both ways of running a call, as far as one can tell them apart. */
static void node_scripts_mean_the_same_as_its_repl(void **state)
{
	static const struct expected v[] = {
		{ "let l = 1; const k = 2; class C {} ; function f() { return 3 } var w = 4", "",
		  "", REPL_OK },
		{ "l + k + f() + w", "10\n", "text/plain=10\n", REPL_OK },
		{ "l = 7; g = 8; l + g", "15\n", "text/plain=15\n", REPL_OK },
		{ "let l = l2 = 9; l", "9\n", "text/plain=9\n", REPL_OK },
		{ "l", "9\n", "text/plain=9\n", REPL_OK },
		{ "let g = 1; g", "1\n", "text/plain=1\n", REPL_OK },
		{ "this === globalThis", "true\n", "text/plain=true\n", REPL_OK },
		{ "{ 1; 2 }", "2\n", "text/plain=2\n", REPL_OK },
		{ "k = 3", "", "", REPL_EXCEPTION },
		{ "[1, 2].map((v) => v * 2).join()", "'2,4'\n", "text/plain='2,4'\n", REPL_OK },
	};
	struct client x;
	struct call *c;

	(void)state;
	EXPECT_ALL("node", v);
	client_begin(&x);
	c = run(&x, "node", "({ m() { null.x } }).m()");
	assert_non_null(strstr(client_text(&c->err), "Uncaught TypeError: Cannot read"));
	if (!strstr(client_text(&c->err), "at Object.m (REPL1:1:15)\n    at REPL1:1:22\n"))
		fail_msg("%s", client_text(&c->err));
	assert_null(strstr(client_text(&c->err), "msb"));
	assert_null(strstr(client_text(&c->err), "node:"));
	client_end(&x);
}

static void heads_are_parsed_strictly(void **state)
{
	static const struct {
		const char *mime;
		bool valid, text;
	} v[] = {
		{ "text/plain", true, true },
		{ "image/png", true, false },
		{ "image/svg+xml", true, true },
		{ "application/vnd.x.v5+JSON", true, true },
		{ "Text/HTML", true, true },
		{ "application/json", true, true },
		{ "application/jsonx", true, false },
		{ "", false, false },
		{ "text", false, false },
		{ "/x", false, false },
		{ "x/", false, false },
		{ "a/b/c", false, false },
		{ "a b/c", false, false },
		{ "a/b;c=d", false, false },
		{ "a/\xc3\xbc", false, false },
		{ ".a/b", false, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		struct frame_repl_result m = { .mime = frame_str_of(v[i].mime), .size = 9 }, got;
		struct buf b = BUF_INIT;
		uint8_t *head;
		size_t n;
		int rc;

		if (frame_mime_valid(&m.mime) != v[i].valid)
			fail_msg("'%s'", v[i].mime);
		if (v[i].valid && frame_mime_is_text(&m.mime) != v[i].text)
			fail_msg("'%s' is %stext", v[i].mime, v[i].text ? "" : "no ");
		/* A frame's header ends with what is not the length; make it one. */
		assert_int_equal(frame_encode(&b, 0, FRAME_REPL_RESULT, 0, &m), 0);
		head = b.mem + b.start + FRAME_HEADER_SIZE - 4;
		n = buf_len(&b) - FRAME_HEADER_SIZE + 4;
		frame_header_put(b.mem + b.start, n - 4, 0, 0, 0);
		memcpy(head, b.mem + b.start, 4);
		rc = frame_decode_result(head, n, &got);
		assert_int_equal(rc, v[i].valid ? (int)n : -EPROTO);
		for (size_t cut = 0; cut < n; cut++) {
			auto_free uint8_t *part = malloc(cut + 1);

			memcpy(part, head, cut);
			assert_int_equal(frame_decode_result(part, cut, &got), -EPROTO);
		}
		buf_fini(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(python_shows_the_last_value),
		TEST(python_shows_what_values_show_of_themselves),
		TEST(python_code_that_misbehaves_breaks_nothing),
		TEST(python_shows_figures),
		TEST(whoever_writes_into_the_results_spoils_only_them),
		TEST(results_are_bounded_in_number),
		TEST(results_come_only_to_who_asks),
		TEST(results_wait_for_credit),
		TEST(a_call_can_be_closed_while_it_sends_results),
		TEST(node_shows_the_last_value),
		TEST(node_scripts_mean_the_same_as_its_repl),
		TEST(heads_are_parsed_strictly),
	};

	return test_run(tests);
}
