// SPDX-License-Identifier: Apache-2.0
// JavaScript in a sandbox: run, errors, modules, state.
import { NodeSandbox } from 'microsandbox';

const sandbox = await NodeSandbox.create({ name: 'node-example' });
try {
  await sandbox.run("var name = 'JavaScript'");
  let execution = await sandbox.run('console.log(`Hello ${name}!`)');
  console.log(await execution.output());

  execution = await sandbox.run("throw new Error('deliberate')");
  console.log('It failed:', execution.hasError(), (await execution.error()).split('\n')[0]);

  execution = await sandbox.run(`
    const fs = require('fs');
    fs.writeFileSync('/tmp/hello.txt', 'written on ' + require('os').platform());
    console.log(fs.readFileSync('/tmp/hello.txt', 'utf8'));
  `);
  console.log(await execution.output());
} finally {
  await sandbox.stop();
}
