# SPDX-License-Identifier: Apache-2.0
"""The same package without asyncio."""
from microsandbox.sync import PythonSandbox

with PythonSandbox.create(name="repl-sync") as sandbox:
    sandbox.run("name = 'Python'")
    print(sandbox.run("print(f'Hello {name}!')").output())
    print(sandbox.command.run("uname", ["-sr"]).output())
