// SPDX-License-Identifier: Apache-2.0
// Output while it is printed, and programs that are talked to.
import { PythonSandbox } from 'microsandbox';

const sandbox = await PythonSandbox.create({ name: 'streaming-example' });
try {
  const slow = "import time\nfor i in range(3):\n    print('step', i, flush=True)\n    time.sleep(0.2)";
  const execution = await sandbox.run(slow, { onStdout: (text) => console.log('heard:', text.trimEnd()) });
  console.log('All of it:', (await execution.output()).split('\n'));

  const script = 'for i in 1 2 3; do echo line $i; sleep 0.2; done; echo oops >&2; exit 3';
  const stream = await sandbox.command.stream('sh', ['-c', script]);
  for await (const { stream: name, text } of stream) process.stdout.write(`${name}: ${text}`);
  console.log('Exit code', stream.exit.exitCode);

  const result = await sandbox.command.run('sort', [], { stdin: 'b\na\n', env: { LC_ALL: 'C' }, cwd: '/tmp' });
  console.log('Sorted:', result.stdout.split('\n'));

  // A terminal: what is typed, and what comes back.
  const shell = await sandbox.command.start('sh', [], { tty: true, rows: 24, cols: 80 });
  await shell.write('echo $((6 * 7)); exit\n');
  for await (const { text } of shell) process.stdout.write(text);
  console.log('The shell ended:', shell.exit.reason);

  // Leaving early kills the program.
  for await (const { text } of await sandbox.command.stream('sh', ['-c', 'while :; do date; sleep 0.1; done'])) {
    process.stdout.write(`One line is enough: ${text}`);
    break;
  }
} finally {
  await sandbox.stop();
}
