# SPDX-License-Identifier: Apache-2.0
"""Python code in a sandbox: the context manager, an explicit life cycle, state, errors."""
import asyncio

from microsandbox import PythonSandbox


async def context_manager() -> None:
    async with PythonSandbox.create(name="repl-context") as sandbox:
        execution = await sandbox.run("print('Hello from a sandbox!')")
        print(await execution.output())


async def life_cycle() -> None:
    sandbox = PythonSandbox(name="repl-life")
    await sandbox.start(memory=1024, cpus=2, envs={"WHO": "you"})
    try:
        execution = await sandbox.run("import os; print('Hello', os.environ['WHO'])")
        print(await execution.output())
    finally:
        await sandbox.stop()


async def state_and_errors() -> None:
    async with PythonSandbox.create(name="repl-state") as sandbox:
        await sandbox.run("x = 20")
        await sandbox.run("def double(n):\n    return 2 * n")
        print(await (await sandbox.run("double(x) + 2")).output())

        execution = await sandbox.run("1 / 0")
        if execution.has_error():
            print("It failed:", (await execution.error()).splitlines()[-1])

        execution = await sandbox.run("while True: pass", timeout=1)
        print("Timed out:", execution.timed_out, "- and x is still", await (await sandbox.run("x")).output())


async def main() -> None:
    await context_manager()
    await life_cycle()
    await state_and_errors()


asyncio.run(main())
