// SPDX-License-Identifier: Apache-2.0
// What a sandbox uses.
import { NotStartedError, PythonSandbox } from 'microsandbox';

try {
  await new PythonSandbox().metrics.cpu();
} catch (error) {
  if (!(error instanceof NotStartedError)) throw error;
  console.log('Before the start:', error.message);
}

const sandbox = await PythonSandbox.create({ name: 'metrics-example' });
try {
  console.log('Running:', await sandbox.metrics.isRunning());
  console.log('Memory:', await sandbox.metrics.memory(), 'MiB');
  console.log('Disk:', await sandbox.metrics.disk(), 'bytes');
  console.log('All:', await sandbox.metrics.all());
  for (let i = 0; i < 3; i++) {
    await sandbox.run('sum(i * i for i in range(200_000))');
    console.log('CPU under load:', await sandbox.metrics.cpu(), '%');
  }
} finally {
  await sandbox.stop();
}
