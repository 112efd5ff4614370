# SPDX-License-Identifier: Apache-2.0
"""Programs in a sandbox: arguments, exit codes, time limits, files."""
import asyncio

from microsandbox import CommandNotRunError, CommandTimeoutError, PythonSandbox


async def main() -> None:
    sandbox = PythonSandbox(name="command-example")
    await sandbox.start()
    try:
        print(await (await sandbox.command.run("ls", ["/"])).output())
        print(await (await sandbox.command.run("echo", ["Hello", "from a sandbox"])).output())
        print(await (await sandbox.command.run("uname", ["-a"])).output())

        result = await sandbox.command.run("ls", ["/nonexistent"])
        print("Exit code", result.exit_code, "success", result.success, "-", await result.error())

        try:
            await sandbox.command.run("no-such-program")
        except CommandNotRunError as e:
            print("Not run:", e)

        try:
            await sandbox.command.run("sh", ["-c", "echo started; sleep 10"], timeout=2)
        except CommandTimeoutError as e:
            print("Too slow; it had printed:", e.stdout)
        print("Still there:", await (await sandbox.command.run("echo", ["yes"])).output())

        script = "printf 'c\\na\\nb\\n' > /tmp/letters && sort /tmp/letters | head -n 1"
        print("First letter:", await (await sandbox.command.run("bash", ["-c", script])).output())
    finally:
        await sandbox.stop()


asyncio.run(main())
