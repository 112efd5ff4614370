# SPDX-License-Identifier: Apache-2.0
"""Files of a sandbox: text, bytes, directories, and files of any size."""
import asyncio
import io

from microsandbox import PythonSandbox


async def main() -> None:
    async with PythonSandbox.create(name="files-example") as sandbox:
        files = sandbox.files
        await files.write("/srv/report/data.csv", "name,n\nann,3\nbob,4\n", parents=True)
        execution = await sandbox.run(
            "import csv\nprint(sum(int(r['n']) for r in csv.DictReader(open('/srv/report/data.csv'))))"
        )
        print("Sum:", await execution.output())

        await sandbox.run("open('/srv/report/out.bin', 'wb').write(bytes(range(256)))")
        print("Bytes:", (await files.read("/srv/report/out.bin", offset=250)).hex())

        for entry in await files.list("/srv/report"):
            print(f"{entry.type:10} {entry.mode:04o} {entry.size:6} {entry.name}")

        # Pieces go up and come down as they are read and written: no size is too large.
        info = await files.upload("/srv/large", io.BytesIO(b"0123456789" * 1_000_000))
        target = io.BytesIO()
        print("Up", info.size, "and down", await files.download("/srv/large", target))

        await files.rename("/srv/large", "/srv/larger")
        await files.remove("/srv/report", recursive=True)
        try:
            await files.read_text("/srv/report/data.csv")
        except FileNotFoundError as e:
            print("Gone:", e)


asyncio.run(main())
