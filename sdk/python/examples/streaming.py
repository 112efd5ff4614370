# SPDX-License-Identifier: Apache-2.0
"""Output while it is printed, and programs that are talked to."""
import asyncio

from microsandbox import PythonSandbox

SLOW = "import time\nfor i in range(3):\n    print('step', i, flush=True)\n    time.sleep(0.2)"


async def main() -> None:
    async with PythonSandbox.create(name="streaming-example") as sandbox:
        execution = await sandbox.run(SLOW, on_stdout=lambda text: print("heard:", text.rstrip()))
        print("All of it:", (await execution.output()).splitlines())

        script = "for i in 1 2 3; do echo line $i; sleep 0.2; done; echo oops >&2; exit 3"
        async with sandbox.command.stream("sh", ["-c", script]) as stream:
            async for output in stream:
                print(f"{output.stream}: {output.text}", end="")
        print("Exit code", stream.exit.exit_code)

        result = await sandbox.command.run("sort", stdin="b\na\n", env={"LC_ALL": "C"}, cwd="/tmp")
        print("Sorted:", result.stdout.splitlines())

        # A terminal: what is typed, and what comes back.
        async with sandbox.command.start("sh", tty=True, rows=24, cols=80) as shell:
            await shell.write("echo $((6 * 7)); exit\n")
            async for output in shell:
                print(output.text, end="")
        print("The shell ended:", shell.exit.reason)

        # Leaving early kills the program.
        async for output in sandbox.command.stream("sh", ["-c", "while :; do date; sleep 0.1; done"]):
            print("One line is enough:", output.text, end="")
            break


asyncio.run(main())
