// SPDX-License-Identifier: Apache-2.0
// Compiled, never run: what users write must fit index.d.cts, and what is wrong must not.
import {
  CommandTimeoutError,
  FileError,
  InvalidParamsError,
  MicrosandboxError,
  NodeSandbox,
  PythonSandbox,
  SandboxOptions,
  listSandboxes,
  type ExitStatus,
  type FileInfo,
  type Line,
  type Output,
  type Process,
  type SandboxInfo,
} from 'microsandbox';

declare const process: {
  stdin: AsyncIterable<Uint8Array>;
  stdout: {
    write(data: Uint8Array | string): boolean;
    on(event: 'error', listener: (error: Error) => void): unknown;
    off(event: 'error', listener: (error: Error) => void): unknown;
  };
};

const sb: PythonSandbox = await PythonSandbox.create({ name: 'a', memory: 1024, envs: { A: '1' }, scope: 'none' });
const execution = await sb.run('1', { timeout: 2, signal: AbortSignal.timeout(5) });
const text: string = await execution.output();
const line: Line | undefined = execution.lines[0];
const code: number | undefined = execution.exitCode;
const command = await sb.command.run('ls', ['-l'], 3);
const status: number = command.exitCode;
const cpu: number | undefined = await sb.metrics.cpu();
const options: SandboxOptions = SandboxOptions.builder().name('x').cpus(2).serverUrl('http://h').build();
const node: NodeSandbox = new NodeSandbox(options);
await node.start('image', 512, 1, 180);
await node.start({ image: 'image', memory: 512 });
await node.start({ scope: 'group', group: 'shop', secrets: [{ name: 'KEY', value: 'v', hosts: ['a.example'] }] });
const infos: SandboxInfo[] = await listSandboxes({ namespace: '*' });
const attached: NodeSandbox = await NodeSandbox.attach('x', { apiKey: 'msb_' });
const bytes: Uint8Array = await sb.files.read('/a', { offset: 1, length: 2, user: 'nobody' });
const file: FileInfo = await sb.fs.write('/a', bytes, { mode: 0o600, parents: true });
await sb.files.upload('/a', process.stdin);
const size: number = await sb.files.download('/a', process.stdout);
for await (const piece of await sb.files.readStream('/a')) console.log(piece.length);
await sb.run('1', { onStdout: (t: string) => console.log(t) });
await sb.command.run('ls', ['-l'], { env: { A: '1' }, cwd: '/', stdin: 'x', onStderr: async (t) => console.log(t) });
const stream = await sb.command.stream('make', [], { timeout: 5 });
for await (const output of stream) console.log((output satisfies Output).text);
const exit: ExitStatus = await stream.wait();
const shell: Process = await sb.command.start('sh', [], { tty: true, rows: 24, cols: 80 });
await shell.write('exit\n');
await shell.resize(50, 100);
await shell.signal('SIGINT');
await (await sb.stream('1')).wait();
await sb.keepAlive({ idleTimeout: null });
const log: string[] = await sb.logs({ source: 'vm', tail: 5 });
await sb.restart({ timeout: 60 });
try {
  await sb.stop();
} catch (error) {
  if (error instanceof CommandTimeoutError) console.log(error.stdout, error.code, error.httpStatus);
  if (error instanceof FileError) console.log(error.errno, error.path);
  if (error instanceof InvalidParamsError || error instanceof MicrosandboxError) console.log(error.message);
}

// @ts-expect-error memory is a number
await PythonSandbox.create({ memory: '512' });
// @ts-expect-error there is no such option
await PythonSandbox.create({ memroy: 512 });
// @ts-expect-error a secret has hosts
await PythonSandbox.create({ secrets: [{ name: 'KEY', value: 'v' }] });
// @ts-expect-error a command has a list of arguments
await sb.command.run('ls', '-l');
// @ts-expect-error results are not made by hand
const made = new CommandTimeoutError().exitCode;

// @ts-expect-error there is no such log
await sb.logs({ source: 'kernel' });

export { file, size, exit, log };
export { text, line, code, status, cpu, infos, attached, made };
