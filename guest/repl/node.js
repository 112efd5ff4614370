// SPDX-License-Identifier: Apache-2.0
// Runs inside the image's own Node.js, 14 or newer; see docs/agent-protocol.md.
//
// Descriptor 7 brings one line per call, "CALL LENGTH RESULTS"; descriptor 8 is a memory
// file with the code, then for the call's results (if RESULTS is 1); on descriptor 9 goes
// one line per call, "CALL STATUS 0", when it is done, "CALL 2 BYTES" for output that came
// too late for its call, and "CALL 3 END" when the results are whole up to END.
//
// Code is evaluated by V8's own REPL mode, through the inspector: declarations persist
// and may be repeated, and await works at the top level.  Code without any of that means
// the same as a plain script, which takes a fraction of the time.
(require, dynamicImport) => {
	'use strict';
	const fs = require('fs');
	const net = require('net');
	const util = require('util');
	const vm = require('vm');
	const { EventEmitter } = require('events');
	const { AsyncLocalStorage } = require('async_hooks');
	const { Session } = require('inspector');

	const OK = 0, EXCEPTION = 1, LATE = 2, RESULT = 3;
	const RESULTS_MAX = 8 << 20, RESULTS_COUNT = 64, JSON_MAX = 64 << 10;
	const key = Symbol('repl');
	const asMime = Symbol.for('Jupyter.display'); // a method that returns { mime: data }
	const scope = new AsyncLocalStorage(); // which call scheduled what runs now?
	const session = new Session();
	const guarded = new vm.Script('globalThis[Object.getOwnPropertySymbols(globalThis)' +
		'.find((s) => s.description === "repl")].step()', { filename: 'msb-repl' });
	let current = null;

	const hidden = (name, value) => Object.defineProperty(globalThis, name,
		{ value, writable: true, configurable: true, enumerable: false });
	const hooks = { step: null, sink: null };
	hidden(key, hooks);
	hidden('__import', dynamicImport);

	const report = (call, status, value) => fs.writeSync(9, `${call} ${status} ${value}\n`);

	// Output of a call that is over must not appear in the next one.
	const original = new Map();
	for (const stream of [process.stdout, process.stderr]) {
		const write = stream.write;
		if (stream._handle && stream._handle.setBlocking)
			stream._handle.setBlocking(true);
		original.set(stream, write.bind(stream));
		stream.write = function (chunk, encoding, done) {
			const call = scope.getStore();
			if (!call || call === current)
				return write.call(this, chunk, encoding, done);
			report(call.id, LATE, chunk.length);
			const callback = typeof encoding === 'function' ? encoding : done;
			if (callback)
				process.nextTick(callback);
			return true;
		};
	}

	// Past the stream's own machinery if nothing waits in it: it blocks just the same.
	const print = (stream, text) => {
		if (stream.writableLength || !stream._handle || !stream._handle.setBlocking) {
			original.get(stream)(text + '\n');
			return;
		}
		const bytes = Buffer.from(text + '\n');
		for (let n = 0; n < bytes.length;)
			n += fs.writeSync(stream.fd, bytes, n);
	};

	// As at Node's own prompt: fs, path, ... are there without require().
	for (const name of require('module').builtinModules) {
		if (name.startsWith('_') || name.includes('/') || name in globalThis)
			continue;
		Object.defineProperty(globalThis, name, {
			configurable: true,
			enumerable: false,
			get: () => {
				const module = require(name);
				hidden(name, module);
				return module;
			},
			set: (value) => Object.defineProperty(globalThis, name,
				{ value, writable: true, configurable: true, enumerable: true }),
		});
	}

	const post = (method, params) => new Promise((resolve, reject) =>
		session.post(method, params, (e, r) => e ? reject(e) : resolve(r)));

	// The value behind an inspector's handle.
	const fetch = (remote) => {
		let value;
		hooks.sink = (v) => { value = v; };
		session.post('Runtime.callFunctionOn', {
			objectId: remote.objectId,
			functionDeclaration: 'function () { globalThis[Object.getOwnPropertySymbols(globalThis)' +
				'.find((s) => s.description === "repl")].sink(this); }',
			silent: true,
		});
		hooks.sink = null;
		return value;
	};

	const describe = (remote) => {
		if (remote.unserializableValue !== undefined)
			return remote.unserializableValue;
		return remote.type === 'symbol' ? remote.description : util.inspect(remote.value);
	};

	// Timers, sockets, servers: handles that nobody wants to read in full.
	const isHandle = (value) => !util.types.isProxy(value) && (value instanceof EventEmitter ||
		(typeof value.hasRef === 'function' && typeof value.ref === 'function'));

	// One entry of a call's results: a length, the body of a REPL_RESULT, the data.
	const put = (call, mime, data, note = '') => {
		let bytes = Buffer.from(data);
		if (call.entries >= RESULTS_COUNT)
			return;
		if (!/^[a-z\d][a-z\d!#$&\-^_.+]{0,126}\/[a-z\d][a-z\d!#$&\-^_.+]{0,126}$/i.test(mime)) {
			note = `not a MIME type: ${mime.slice(0, 100)}`;
			mime = 'application/octet-stream';
			bytes = Buffer.alloc(0);
		}
		if (++call.entries === RESULTS_COUNT) {
			bytes = Buffer.alloc(0);
			note = `more than ${RESULTS_COUNT - 1} results: the others are left out`;
		} else if (bytes.length > RESULTS_MAX - call.bytes) {
			note = `left out: ${bytes.length} bytes, the results of a call have ${RESULTS_MAX}`;
			bytes = Buffer.alloc(0);
		}
		const m = Buffer.from(mime), n = Buffer.from(note.slice(0, 200)).subarray(0, 255);
		const head = Buffer.alloc(4 + 4 + m.length + 8 + 4 + n.length);
		let at = head.writeUInt32LE(head.length - 4, 0);
		at = head.writeUInt32LE(m.length, at);
		at += m.copy(head, at);
		at = head.writeUInt32LE(bytes.length, at);
		at = head.writeUInt32LE(0, at);
		at = head.writeUInt32LE(n.length, at);
		n.copy(head, at);
		for (const part of [head, bytes])
			for (let done = 0, n; done < part.length; done += n, call.end += n)
				n = fs.writeSync(8, part, done, part.length - done, call.end);
		call.bytes += bytes.length;
		report(call.id, RESULT, call.end);
	};

	const isPlain = (value) => {
		const proto = Object.getPrototypeOf(value);
		return Array.isArray(value) || proto === Object.prototype || proto === null;
	};

	// Returns a promise if the value takes its time.
	const putValue = (call, text, value) => {
		if (!call.results)
			return undefined;
		put(call, 'text/plain', text);
		if (value === null || typeof value !== 'object' || util.types.isProxy(value))
			return undefined;
		const failed = (e) => put(call, 'text/plain', '', `Jupyter.display: ${util.inspect(e)}`);
		const putBundle = (bundle) => {
			for (const [mime, data] of Object.entries(Object(bundle)))
				if (mime !== 'text/plain')
					putMime(call, mime, data);
		};
		try {
			if (typeof value[asMime] === 'function') {
				const bundle = value[asMime]();
				if (bundle && typeof bundle.then === 'function')
					return Promise.resolve(bundle).then(putBundle).catch(failed);
				putBundle(bundle);
				return undefined;
			}
		} catch (e) {
			failed(e);
			return undefined;
		}
		if (isPlain(value)) {
			let json;
			try {
				json = JSON.stringify(value);
			} catch {
				// a cycle, a BigInt, a getter that throws: there is the text
			}
			if (json && json.length <= JSON_MAX)
				put(call, 'application/json', json);
		}
		return undefined;
	};

	// Pictures come as bytes or in base64.
	const putMime = (call, mime, data) => {
		const type = mime.toLowerCase();
		if (ArrayBuffer.isView(data))
			put(call, mime, Buffer.from(data.buffer, data.byteOffset, data.byteLength));
		else if (typeof data !== 'string')
			put(call, mime, JSON.stringify(data) || 'null');
		else if (/^text\/|json|xml|javascript|ecmascript/.test(type))
			put(call, mime, data);
		else
			put(call, mime, Buffer.from(data, 'base64'));
	};

	const echo = (call, value) => {
		if (value === undefined || (value !== null && typeof value === 'object' && isHandle(value)))
			return undefined;
		const text = util.inspect(value);
		print(process.stdout, text);
		return putValue(call, text, value);
	};

	const echoRemote = (call, remote) => {
		if (remote.objectId && remote.type !== 'symbol')
			return echo(call, fetch(remote));
		if (remote.type === 'undefined')
			return undefined;
		const text = describe(remote);
		print(process.stdout, text);
		return putValue(call, text);
	};

	// As the value of a last expression, but at any place and several times.
	hidden('display', (...values) => {
		const call = scope.getStore();
		if (!call || call !== current || call.finished)
			return;
		for (const value of values) {
			const text = util.inspect(value);
			print(process.stdout, text);
			const later = putValue(call, text, value);
			if (later)
				call.displays.push(later);
		}
	});

	// Frames of the driver, and of what it goes through, are at the end of a stack.
	const trim = (error) => {
		if (!util.types.isNativeError(error) || typeof error.stack !== 'string')
			return error;
		const lines = error.stack.split('\n');
		let cut = lines.findIndex((l) => /^ {4}at .*msb-repl/.test(l));
		while (cut > 0 && /^ {4}at .*(node:inspector|inspector\.js|node:vm|vm\.js)/.test(lines[cut - 1]))
			cut--;
		if (cut > 0) {
			try {
				error.stack = lines.slice(0, cut).join('\n');
			} catch {
				// frozen: shown as it is
			}
		}
		return error;
	};

	const showError = (error) => print(process.stderr, `Uncaught ${util.inspect(trim(error))}`);

	const showException = (call, details) => {
		const remote = details.exception;
		if (!remote || !remote.objectId) {
			print(process.stderr, `Uncaught ${remote ? describe(remote) : details.text}`);
			return;
		}
		const error = trim(fetch(remote));
		const atCompile = remote.className === 'SyntaxError' && !String(error.stack).includes(call.name);
		if (!atCompile) {
			showError(error);
			return;
		}
		const line = call.code.split('\n')[details.lineNumber] || '';
		print(process.stderr, `${call.name}:${details.lineNumber + 1}\n${line}\n` +
			`${' '.repeat(Math.max(details.columnNumber, 0))}^\n\nUncaught ${error}`);
	};

	const finish = (call, status) => {
		if (call.finished)
			return;
		call.finished = true;
		process.removeListener('SIGINT', onSigint);
		if (status === EXCEPTION)
			call.status = EXCEPTION;
		// After the rejections of this turn have been looked at.
		setImmediate(() => {
			if (current !== call)
				return;
			current = null;
			report(call.id, call.status, 0);
			if (call.handles)
				session.post('Runtime.releaseObjectGroup', { objectGroup: 'repl' });
		});
	};

	// Ends the call when its value is shown. @show may fail: getters and inspect functions
	// are the user's.
	const conclude = (call, show) => {
		const failed = (e) => {
			if (!call.finished)
				showError(e);
			finish(call, EXCEPTION);
		};
		try {
			const later = show();
			if (!later && !call.displays.length)
				finish(call, OK);
			else
				Promise.all([later, ...call.displays]).then(() => finish(call, OK), failed);
		} catch (e) {
			failed(e);
		}
	};

	// vm stops and starts every listener of SIGINT around a script, so there is one only
	// while a call waits for something.
	const onSigint = () => current && !current.finished && interrupted(current);

	const interrupted = (call) => {
		print(process.stderr, 'Uncaught Error: interrupted');
		finish(call, EXCEPTION);
	};

	// import() has no meaning in code that comes through the inspector: outside of
	// strings, templates, comments and regular expressions it is renamed.
	const renameImport = (code) => {
		if (!/\bimport\s*\(/.test(code))
			return code;
		const token = /\/\/.*|\/\*[^]*?\*\/|'(?:\\[^]|[^'\\\n])*'|"(?:\\[^]|[^"\\\n])*"|[`{}]|[\w$]+|[^\s]/g;
		const template = /(?:\\[^]|(?!\$\{)[^`\\])*(?:`|\$\{)/g;
		const regexp = /(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\[\n])+\/\w*/y;
		const braces = [];
		let out = '', at = 0, before = '', m;
		const skipTemplate = () => {
			template.lastIndex = token.lastIndex;
			const t = template.exec(code);
			token.lastIndex = t ? template.lastIndex : code.length;
			if (t && t[0].endsWith('${'))
				braces.push('`');
		};
		while ((m = token.exec(code))) {
			const text = m[0];
			if (text === '`') {
				skipTemplate();
			} else if (text === '{') {
				braces.push('{');
			} else if (text === '}') {
				if (braces.pop() === '`')
					skipTemplate();
			} else if (text === '/' && !/^[\w$)\]}]/.test(before) ||
				text === '/' && /^(?:return|typeof|case|in|of|await|void|delete)$/.test(before)) {
				regexp.lastIndex = token.lastIndex;
				if (regexp.test(code))
					token.lastIndex = regexp.lastIndex;
			} else if (text === 'import' && before !== '.' && /^\s*\(/.test(code.slice(token.lastIndex))) {
				out += code.slice(at, m.index) + '__import';
				at = token.lastIndex;
			}
			if (!text.startsWith('//') && !text.startsWith('/*'))
				before = text;
		}
		return out + code.slice(at);
	};

	const evaluate = (call) => session.post('Runtime.evaluate', {
		expression: `${renameImport(call.code)}\n//# sourceURL=${call.name}`,
		objectGroup: 'repl',
		replMode: true,
		silent: true,
	}, (error, reply) => {
		call.handles = !error && (reply.exceptionDetails || reply.result.objectId);
		if (call.finished)
			return;
		if (error) {
			print(process.stderr, `Uncaught Error: ${error.message}`);
			finish(call, EXCEPTION);
		} else if (reply.exceptionDetails) {
			showException(call, reply.exceptionDetails);
			finish(call, EXCEPTION);
		} else {
			conclude(call, () => echoRemote(call, reply.result));
		}
	});

	// Nothing in these words: a script declares nothing and waits for nothing, so it is
	// the same in both modes.
	const needsRepl = /\b(?:await|async|let|const|var|class|function|import)\b/;

	// Return: false if it is not for a plain script.
	const evaluateScript = (call) => {
		let script, value;
		if (needsRepl.test(call.code))
			return false;
		try {
			script = new vm.Script(call.code, { filename: call.name, displayErrors: false });
		} catch {
			return false; // REPL mode says where it is wrong
		}
		try {
			value = scope.run(call, runScript, script);
		} catch (e) {
			if (isInterrupt(e))
				throw e;
			showError(e);
			finish(call, EXCEPTION);
			return true;
		}
		scope.run(call, conclude, call, () => echo(call, value));
		return true;
	};
	const runScript = (script) => script.runInThisContext({ breakOnSigint: true, displayErrors: false });
	const isInterrupt = (e) => e && e.code === 'ERR_SCRIPT_EXECUTION_INTERRUPTED';

	const run = (id, length, results) => {
		const bytes = Buffer.alloc(length);
		for (let n = 0, got; n < length; n += got)
			if (!(got = fs.readSync(8, bytes, n, length - n, n)))
				break;
		const call = { id, code: bytes.toString(), name: `REPL${id}`, status: OK, finished: false,
			results, entries: 0, bytes: 0, end: 0, displays: [], handles: false };
		current = call;
		hooks.step = () => scope.run(call, evaluate, call);
		try {
			if (!evaluateScript(call))
				guarded.runInThisContext({ breakOnSigint: true });
		} catch (e) {
			if (!isInterrupt(e))
				throw e;
			interrupted(call);
		}
		if (!call.finished)
			process.on('SIGINT', onSigint);
	};

	const uncaught = (error) => {
		const call = scope.getStore();
		if (call && call !== current) {
			report(call.id, LATE, 0);
			return;
		}
		showError(error);
		if (current)
			current.status = EXCEPTION;
	};

	process.on('uncaughtException', uncaught);
	process.on('unhandledRejection', uncaught);

	session.connect();
	let line = '';
	const input = new net.Socket({ fd: 7, readable: true, writable: false });
	input.on('data', (chunk) => {
		line += chunk;
		const at = line.indexOf('\n');
		if (at < 0)
			return;
		const [id, length, results] = line.slice(0, at).split(' ').map(Number);
		line = line.slice(at + 1);
		run(id, length, results === 1);
	});
	input.on('end', () => process.exit(0));
	report(0, 0, 0);
}
