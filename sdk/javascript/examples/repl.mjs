// SPDX-License-Identifier: Apache-2.0
// Python code in a sandbox: life cycle, state, errors, time limits.
import { PythonSandbox } from 'microsandbox';

const sandbox = new PythonSandbox({ name: 'repl-example' });
await sandbox.start({ memory: 1024, cpus: 2, envs: { WHO: 'you' } });
try {
  let execution = await sandbox.run("import os; print('Hello', os.environ['WHO'])");
  console.log(await execution.output());

  await sandbox.run('x = 20');
  await sandbox.run('def double(n):\n    return 2 * n');
  execution = await sandbox.run('double(x) + 2');
  console.log(await execution.output());

  execution = await sandbox.run('1 / 0');
  if (execution.hasError()) console.log('It failed:', (await execution.error()).split('\n').at(-1));

  execution = await sandbox.run('while True: pass', { timeout: 1 });
  console.log('Timed out:', execution.timedOut);
} finally {
  await sandbox.stop();
}
