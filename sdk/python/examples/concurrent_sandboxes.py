# SPDX-License-Identifier: Apache-2.0
"""Several sandboxes at once, and a call that is given up."""
import asyncio

from microsandbox import NodeSandbox, PythonSandbox, list_sandboxes


async def main() -> None:
    async with PythonSandbox.create(name="concurrent-py") as py, NodeSandbox.create(name="concurrent-js") as js:
        executions = await asyncio.gather(py.run("print(6 * 7)"), js.run("console.log(6 * 7)"))
        print([await e.output() for e in executions])
        print([s.name for s in await list_sandboxes()])

        try:
            await asyncio.wait_for(py.command.run("sleep", ["1000"]), 1)
        except asyncio.TimeoutError:
            print("Given up: the server has killed it")


asyncio.run(main())
