// SPDX-License-Identifier: Apache-2.0
// Compiled, never run: what users write must fit index.d.cts, and what is wrong must not.
import {
  CommandTimeoutError,
  InvalidParamsError,
  MicrosandboxError,
  NodeSandbox,
  PythonSandbox,
  SandboxOptions,
  listSandboxes,
  type Line,
  type SandboxInfo,
} from 'microsandbox';

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
const infos: SandboxInfo[] = await listSandboxes({ namespace: '*' });
const attached: NodeSandbox = await NodeSandbox.attach('x', { apiKey: 'msb_' });
try {
  await sb.stop();
} catch (error) {
  if (error instanceof CommandTimeoutError) console.log(error.stdout, error.code, error.httpStatus);
  if (error instanceof InvalidParamsError || error instanceof MicrosandboxError) console.log(error.message);
}

// @ts-expect-error memory is a number
await PythonSandbox.create({ memory: '512' });
// @ts-expect-error there is no such option
await PythonSandbox.create({ memroy: 512 });
// @ts-expect-error a command has a list of arguments
await sb.command.run('ls', '-l');
// @ts-expect-error results are not made by hand
const made = new CommandTimeoutError().exitCode;

export { text, line, code, status, cpu, infos, attached, made };
