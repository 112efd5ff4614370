# SPDX-License-Identifier: Apache-2.0
"""What a sandbox uses."""
import asyncio

from microsandbox import NotStartedError, PythonSandbox


async def main() -> None:
    try:
        await PythonSandbox(name="metrics-example").metrics.cpu()
    except NotStartedError as e:
        print("Before the start:", e)

    async with PythonSandbox.create(name="metrics-example") as sandbox:
        print("Running:", await sandbox.metrics.is_running())
        print("Memory:", await sandbox.metrics.memory(), "MiB")
        print("Disk:", await sandbox.metrics.disk(), "bytes")
        print("All:", await sandbox.metrics.all())

        for _ in range(3):
            await sandbox.run("sum(i * i for i in range(200_000))")
            print("CPU under load:", await sandbox.metrics.cpu(), "%")


asyncio.run(main())
