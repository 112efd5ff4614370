// SPDX-License-Identifier: Apache-2.0
// Files of a sandbox: text, bytes, directories, and files of any size.
import { PassThrough, Readable } from 'node:stream';
import { FileError, PythonSandbox } from 'microsandbox';

const sandbox = await PythonSandbox.create({ name: 'files-example' });
try {
  const { files } = sandbox;
  await files.write('/srv/report/data.csv', 'name,n\nann,3\nbob,4\n', { parents: true });
  const code = "import csv\nprint(sum(int(r['n']) for r in csv.DictReader(open('/srv/report/data.csv'))))";
  console.log('Sum:', await (await sandbox.run(code)).output());

  await sandbox.run("open('/srv/report/out.bin', 'wb').write(bytes(range(256)))");
  console.log('Bytes:', (await files.read('/srv/report/out.bin', { offset: 250 })).toString('hex'));

  for (const entry of await files.list('/srv/report')) {
    console.log(entry.type, entry.mode.toString(8), entry.size, entry.name);
  }

  // Pieces go up and come down as they are read and written: no size is too large.
  const pieces = function* () {
    for (let i = 0; i < 1000; i++) yield Buffer.from('0123456789'.repeat(1000));
  };
  const info = await files.upload('/srv/large', Readable.from(pieces()));
  const target = new PassThrough().resume();
  console.log('Up', info.size, 'and down', await files.download('/srv/large', target));

  await files.rename('/srv/large', '/srv/larger');
  await files.remove('/srv/report', { recursive: true });
  try {
    await files.readText('/srv/report/data.csv');
  } catch (error) {
    if (!(error instanceof FileError && error.errno === 'ENOENT')) throw error;
    console.log('Gone:', error.message);
  }
} finally {
  await sandbox.stop();
}
