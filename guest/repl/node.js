// SPDX-License-Identifier: Apache-2.0
// Runs inside the image's own Node.js, 14 or newer; see docs/agent-protocol.md.
//
// Descriptor 7 brings one line per call, "CALL LENGTH"; descriptor 8 is a memory file
// with the code; on descriptor 9 goes one line per call, "CALL STATUS 0", when it is
// done, and "CALL 2 BYTES" for output that came too late for its call.
//
// Code is evaluated by V8's own REPL mode, through the inspector: declarations persist
// and may be repeated, and await works at the top level.
(require, dynamicImport) => {
	'use strict';
	const fs = require('fs');
	const net = require('net');
	const util = require('util');
	const vm = require('vm');
	const { EventEmitter } = require('events');
	const { AsyncLocalStorage } = require('async_hooks');
	const { Session } = require('inspector');

	const OK = 0, EXCEPTION = 1, LATE = 2;
	const key = Symbol('repl');
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
	const print = (stream, text) => original.get(stream)(text + '\n');

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
		if (remote.objectId && remote.type !== 'symbol')
			return util.inspect(fetch(remote));
		if (remote.unserializableValue !== undefined)
			return remote.unserializableValue;
		return remote.type === 'symbol' ? remote.description : util.inspect(remote.value);
	};

	// Timers, sockets, servers: handles that nobody wants to read in full.
	const isHandle = (value) => value instanceof EventEmitter ||
		(typeof value.hasRef === 'function' && typeof value.ref === 'function');

	const echo = (remote) => {
		if (remote.type === 'undefined')
			return;
		if (remote.type === 'object' && remote.objectId && isHandle(fetch(remote)))
			return;
		print(process.stdout, describe(remote));
	};

	// Frames of the driver, and of what it goes through, are at the end of a stack.
	const trim = (error) => {
		if (!util.types.isNativeError(error) || typeof error.stack !== 'string')
			return error;
		const lines = error.stack.split('\n');
		const cut = lines.findIndex((l) => /^ {4}at .*(node:inspector|inspector\.js|msb-repl)/.test(l));
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
		if (status === EXCEPTION)
			call.status = EXCEPTION;
		// After the rejections of this turn have been looked at.
		setImmediate(() => {
			if (current !== call)
				return;
			current = null;
			session.post('Runtime.releaseObjectGroup', { objectGroup: 'repl' });
			report(call.id, call.status, 0);
		});
	};

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
		if (call.finished)
			return;
		if (error) {
			print(process.stderr, `Uncaught Error: ${error.message}`);
			finish(call, EXCEPTION);
		} else if (reply.exceptionDetails) {
			showException(call, reply.exceptionDetails);
			finish(call, EXCEPTION);
		} else {
			try {
				echo(reply.result);
				finish(call, OK);
			} catch (e) { // a getter or an inspect function of the user's
				showError(e);
				finish(call, EXCEPTION);
			}
		}
	});

	const run = (id, length) => {
		const bytes = Buffer.alloc(length);
		for (let n = 0, got; n < length; n += got)
			if (!(got = fs.readSync(8, bytes, n, length - n, n)))
				break;
		const call = { id, code: bytes.toString(), name: `REPL${id}`, status: OK, finished: false };
		current = call;
		hooks.step = () => scope.run(call, evaluate, call);
		try {
			guarded.runInThisContext({ breakOnSigint: true });
		} catch (e) {
			if (e && e.code === 'ERR_SCRIPT_EXECUTION_INTERRUPTED')
				interrupted(call);
			else
				throw e;
		}
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
	process.on('SIGINT', () => current && !current.finished && interrupted(current));

	session.connect();
	let line = '';
	const input = new net.Socket({ fd: 7, readable: true, writable: false });
	input.on('data', (chunk) => {
		line += chunk;
		const at = line.indexOf('\n');
		if (at < 0)
			return;
		const [id, length] = line.slice(0, at).split(' ').map(Number);
		line = line.slice(at + 1);
		run(id, length);
	});
	input.on('end', () => process.exit(0));
	report(0, 0, 0);
}
