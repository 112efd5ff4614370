// SPDX-License-Identifier: Apache-2.0
// Programs in a sandbox: arguments, exit codes, time limits, files.  With require().
const { CommandNotRunError, CommandTimeoutError, PythonSandbox } = require('microsandbox');

async function main() {
  const sandbox = await PythonSandbox.create({ name: 'command-example' });
  try {
    console.log(await (await sandbox.command.run('ls', ['/'])).output());
    console.log(await (await sandbox.command.run('uname', ['-a'])).output());

    const result = await sandbox.command.run('ls', ['/nonexistent']);
    console.log('Exit code', result.exitCode, 'success', result.success, '-', await result.error());

    try {
      await sandbox.command.run('no-such-program');
    } catch (error) {
      if (!(error instanceof CommandNotRunError)) throw error;
      console.log('Not run:', error.message);
    }

    try {
      await sandbox.command.run('sh', ['-c', 'echo started; sleep 10'], { timeout: 2 });
    } catch (error) {
      if (!(error instanceof CommandTimeoutError)) throw error;
      console.log('Too slow; it had printed:', error.stdout);
    }
    console.log('Still there:', await (await sandbox.command.run('echo', ['yes'])).output());

    const script = "printf 'c\\na\\nb\\n' > /tmp/letters && sort /tmp/letters | head -n 1";
    console.log('First letter:', await (await sandbox.command.run('bash', ['-c', script])).output());
  } finally {
    await sandbox.stop();
  }
}

main();
