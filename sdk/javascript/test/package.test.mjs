// SPDX-License-Identifier: Apache-2.0
// What is JavaScript's own; what all SDKs share is in tests/conformance.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { getEventListeners, once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable, Writable } from 'node:stream';
import { after, before, test } from 'node:test';
import * as esm from '../index.mjs';

const require = createRequire(import.meta.url);
const { NodeSandbox, PythonSandbox, SandboxOptions } = esm;
let peer;
let serverUrl;

before(async () => {
  const path = new URL('../../../tests/conformance/peer.py', import.meta.url).pathname;
  peer = spawn('python3', [path], { stdio: ['pipe', 'pipe', 'inherit'] });
  [serverUrl] = await once(peer.stdout.setEncoding('utf8'), 'data');
  serverUrl = serverUrl.trim();
});
after(() => peer.stdin.end());

test('import and require give the same classes, and all of them', () => {
  const cjs = require('../index.cjs');
  assert.deepEqual(Object.keys(esm).sort(), Object.keys(cjs).sort());
  for (const [name, value] of Object.entries(cjs)) assert.equal(esm[name], value);
});

test('the types name all that there is, and no more', () => {
  const types = readFileSync(new URL('../index.d.cts', import.meta.url), 'utf8');
  const named = [...types.matchAll(/^export (?:abstract )?(?:class|function) (\w+)/gm)].map((m) => m[1]);
  assert.deepEqual(named.sort(), Object.keys(esm).sort());
});

test('the builder has a method for each option', () => {
  const values = { name: 'a', serverUrl, memory: 1, cpus: 2, envs: { A: '1' }, dependsOn: [], scope: 'none' };
  const builder = SandboxOptions.builder();
  for (const [key, value] of Object.entries(values)) assert.equal(builder[key](value), builder);
  assert.deepEqual({ ...builder.build() }, values);
});

test('positional arguments of start, as older programs have them', async () => {
  const sandbox = new PythonSandbox({ serverUrl, name: 'pos' });
  await sandbox.start('img', 700, 2, 9);
  const sent = JSON.parse(await (await sandbox.run('params')).output());
  assert.deepEqual(sent, { sandbox: 'pos', timeout: 9, config: { image: 'img', memory: 700, cpus: 2 } });
  await sandbox.stop();
});

test('a class of one’s own', async () => {
  class ShellSandbox extends esm.BaseSandbox {
    get language() {
      return 'sh';
    }

    async getDefaultImage() {
      return 'alpine';
    }
  }
  const sandbox = await ShellSandbox.create({ serverUrl });
  assert.ok(sandbox instanceof ShellSandbox);
  assert.match(await (await sandbox.run('params')).output(), /"image": "alpine"/);
  await sandbox.stop();
});

test('an object of environment variables', async () => {
  const sandbox = await NodeSandbox.create({ serverUrl, envs: { A: '1', B: 'x=y' } });
  const sent = JSON.parse(await (await sandbox.run('params')).output());
  assert.deepEqual(sent.config.envs, ['A=1', 'B=x=y']);
  await sandbox.stop();
});

test('an option that does not exist', async () => {
  assert.throws(() => new PythonSandbox({ memroy: 1 }), { name: 'TypeError', message: "there is no option 'memroy'" });
  assert.throws(() => new PythonSandbox('name'), TypeError);
  await assert.rejects(new PythonSandbox({ serverUrl }).start({ name: 'x' }), TypeError);
  await assert.rejects(esm.listSandboxes({ name: 'x' }), TypeError);
  const sandbox = await PythonSandbox.create({ serverUrl });
  const wrong = { name: 'TypeError', message: "there is no option 'envs'" };
  await assert.rejects(sandbox.run('hello', { envs: {} }), wrong);
  await assert.rejects(sandbox.command.run('plain', [], { envs: {} }), wrong);
  await assert.rejects(sandbox.command.start('plain', [], { envs: {} }), wrong);
  await assert.rejects(sandbox.command.stream('plain', [], { tty: true }), TypeError);
  await assert.rejects(sandbox.files.write('/up', 'x', { parent: true }), TypeError);
  await assert.rejects(sandbox.files.read('/plain', { lenght: 1 }), TypeError);
  await assert.rejects(sandbox.files.remove('/up', { recursiv: true }), TypeError);
  await sandbox.stop();
});

test('an aborted call rejects with the reason', async () => {
  const sandbox = await PythonSandbox.create({ serverUrl });
  const reason = new Error('enough');
  await assert.rejects(sandbox.run('never', { signal: AbortSignal.abort(reason) }), reason);
  await assert.rejects(sandbox.run('never', { signal: AbortSignal.timeout(50) }), { name: 'TimeoutError' });
  assert.equal(await (await sandbox.run('hello')).output(), 'hello');
  await sandbox.stop();
});

test('many calls on one connection leave nothing behind', async () => {
  const warnings = [];
  const listen = (warning) => warnings.push(warning);
  process.on('warning', listen);
  const sandbox = await PythonSandbox.create({ serverUrl });
  const { signal } = new AbortController();
  for (let i = 0; i < 30; i++) await sandbox.run('hello', { signal });
  await sandbox.stop();
  await new Promise(setImmediate); // warnings are emitted on the next tick
  process.off('warning', listen);
  assert.deepEqual(warnings, []);
});

test('output in the ways of the language', async () => {
  const sandbox = await PythonSandbox.create({ serverUrl, name: 'out' });
  const texts = [];
  for await (const output of await sandbox.command.stream('plain')) texts.push(output.text);
  assert.deepEqual(texts, ['hello\n', 'a\ufffdb']);
  for await (const output of await sandbox.command.stream('never')) {
    assert.equal(output.text, 'hello\n');
    break; // kills it
  }
  assert.equal(await (await sandbox.run('vanished')).output(), 'hello');
  assert.equal((await (await sandbox.command.start('plain')).wait()).success, true);
  await sandbox.stop();
});

test('a listener is waited for, and what it throws ends the call', async () => {
  const sandbox = await PythonSandbox.create({ serverUrl });
  const heard = [];
  const onStdout = async (text) => {
    await new Promise(setImmediate);
    heard.push(text);
  };
  await sandbox.run('plain', { onStdout });
  assert.deepEqual(heard, ['hello\n']);
  const onStderr = () => {
    throw new Error('enough');
  };
  await assert.rejects(sandbox.run('plain', { onStderr }), { message: 'enough' });
  await sandbox.stop();
});

test('an aborted stream rejects with the reason, and kills what runs', async () => {
  for (const open of ['stream', 'start']) {
    const name = `abort-${open}`;
    const sandbox = await PythonSandbox.create({ serverUrl, name });
    const controller = new AbortController();
    const stream = await sandbox.command[open]('never', [], { signal: controller.signal });
    await stream.next();
    const reading = stream.next();
    controller.abort(new Error('enough'));
    await assert.rejects(reading, { message: 'enough' });
    assert.equal(await (await sandbox.run('vanished')).output(), 'hello');
    await sandbox.stop();
  }
});

test('a signal has no listener left after a call', async () => {
  const sandbox = await PythonSandbox.create({ serverUrl });
  const { signal } = new AbortController();
  await (await sandbox.command.stream('plain', [], { signal })).wait();
  await (await sandbox.command.start('plain', [], { signal })).wait();
  await sandbox.files.read('/chunked', { signal });
  await sandbox.files.write('/up', 'x', { signal });
  await assert.rejects(sandbox.files.read('/gone', { signal }), { errno: 'ENOENT', path: '/gone' });
  await sandbox.command.run('plain', [], { signal, onStdout() {} });
  assert.equal(getEventListeners(signal, 'abort').length, 0);
  await sandbox.stop();
});

test('streams of this machine', async () => {
  const sandbox = await PythonSandbox.create({ serverUrl });
  assert.equal((await sandbox.files.upload('/up', Readable.from([Buffer.from('ab'), 'é']))).size, 4);
  await assert.rejects(sandbox.files.upload('/up', 'text'), TypeError);
  const target = new PassThrough();
  assert.equal(await sandbox.files.download('/chunked', target), 5);
  assert.equal(target.read().toString(), 'hello');
  const failing = new Writable({
    highWaterMark: 1,
    write(data, encoding, done) {
      done(new Error('disk full'));
    },
  });
  await assert.rejects(sandbox.files.download('/chunked', failing), { message: 'disk full' });
  await sandbox.stop();
});

test('an object disposes of itself', { skip: !Symbol.asyncDispose }, async () => {
  const sandbox = await PythonSandbox.create({ serverUrl });
  await sandbox[Symbol.asyncDispose]();
  assert.equal(sandbox.isStarted, false);
});

test('texts that UTF-8 cannot express, and numbers that JSON cannot', async () => {
  const sandbox = await PythonSandbox.create({ serverUrl });
  await assert.rejects(sandbox.run('\ud800'), TypeError);
  await assert.rejects(sandbox.command.run('ls', '-l'), TypeError);
  await assert.rejects(PythonSandbox.create({ serverUrl, memory: NaN }), RangeError);
  await sandbox.stop();
});

test('a file .env', () => {
  const { readEnvFile } = require('../lib/settings.cjs');
  const directory = mkdtempSync(join(tmpdir(), 'msb-sdk-'));
  const path = join(directory, '.env');
  writeFileSync(
    path,
    "# MSB_A=1\nMSB_B=x # note\nexport MSB_C=\"a # b\"\r\n MSB_D = 'q' \nOTHER=1\nMSB_E=\nMSB_F\nMSB_G='open\n",
  );
  assert.deepEqual(readEnvFile(path), { MSB_B: 'x', MSB_C: 'a # b', MSB_D: 'q', MSB_E: '', MSB_G: "'open" });
  assert.deepEqual(readEnvFile(`${path}x`), {});
  rmSync(directory, { recursive: true });
});
