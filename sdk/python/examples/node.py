# SPDX-License-Identifier: Apache-2.0
"""JavaScript in a sandbox: run, errors, modules, state."""
import asyncio

from microsandbox import NodeSandbox


async def main() -> None:
    async with NodeSandbox.create(name="node-example") as sandbox:
        execution = await sandbox.run("console.log('Hello from Node.js!')")
        print(await execution.output())

        execution = await sandbox.run("throw new Error('deliberate')")
        print("It failed:", execution.has_error(), (await execution.error()).splitlines()[0])

        execution = await sandbox.run(
            """
            const fs = require('fs');
            const os = require('os');
            fs.writeFileSync('/tmp/hello.txt', 'written on ' + os.platform());
            console.log(fs.readFileSync('/tmp/hello.txt', 'utf8'));
            """
        )
        print(await execution.output())

        await sandbox.run("let counter = 0; function next() { return ++counter; }")
        await sandbox.run("next(); next();")
        print("Counter:", await (await sandbox.run("console.log(next())")).output())


asyncio.run(main())
