// SPDX-License-Identifier: Apache-2.0
// Several sandboxes at once, and a call that is given up.
import { NodeSandbox, PythonSandbox, listSandboxes } from 'microsandbox';

const [py, js] = await Promise.all([
  PythonSandbox.create({ name: 'concurrent-py' }),
  NodeSandbox.create({ name: 'concurrent-js' }),
]);
try {
  const executions = await Promise.all([py.run('print(6 * 7)'), js.run('console.log(6 * 7)')]);
  console.log(await Promise.all(executions.map((e) => e.output())));
  console.log((await listSandboxes()).map((s) => s.name));
  try {
    await py.command.run('sleep', ['1000'], { signal: AbortSignal.timeout(1000) });
  } catch (error) {
    if (error.name !== 'TimeoutError') throw error;
    console.log('Given up: the server has killed it');
  }
} finally {
  await Promise.all([py.stop(), js.stop()]);
}
