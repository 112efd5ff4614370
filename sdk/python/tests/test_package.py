# SPDX-License-Identifier: Apache-2.0
"""What is Python's own; what all SDKs share is in tests/conformance."""
import asyncio
import contextlib
import gc
import pathlib
import subprocess
import sys
import threading
import unittest
import warnings

import microsandbox
import microsandbox.sync
from microsandbox import _http, _settings, _wire, errors

PEER = pathlib.Path(__file__).resolve().parents[3] / "tests/conformance/peer.py"


class WithPeer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.peer = subprocess.Popen([sys.executable, str(PEER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        cls.url = cls.peer.stdout.readline().strip()

    @classmethod
    def tearDownClass(cls):
        cls.peer.stdin.close()
        cls.peer.wait()
        cls.peer.stdout.close()


class Async(WithPeer):
    def test_context_manager_stops_after_an_exception(self):
        async def main():
            with self.assertRaises(KeyError):
                async with microsandbox.PythonSandbox.create(server_url=self.url, name="ctx") as sandbox:
                    raise KeyError
            self.assertFalse(sandbox.is_started)
            async with microsandbox.PythonSandbox.create(server_url=self.url) as other:
                self.assertEqual(await (await other.run("stopped ctx")).output(), "hello")

        asyncio.run(main())

    def test_the_object_itself_is_a_context_manager(self):
        async def main():
            async with microsandbox.NodeSandbox(self.url, name="obj") as sandbox:
                self.assertTrue(sandbox.is_started)
            self.assertFalse(sandbox.is_started)

        asyncio.run(main())

    def test_one_object_in_two_event_loops(self):
        sandbox = microsandbox.PythonSandbox(self.url)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # the loops end without stop()
            asyncio.run(sandbox.start())
            execution = asyncio.run(sandbox.run("hello"))
            asyncio.run(sandbox.stop())
            gc.collect()
        self.assertEqual(execution.stdout, "hello")

    def test_a_class_of_ones_own(self):
        class ShellSandbox(microsandbox.BaseSandbox):
            language = "sh"
            default_image = "alpine"

        class Older(microsandbox.BaseSandbox):
            language = "sh"

            async def get_default_image(self):
                return "debian"

        async def main():
            for cls, image in ((ShellSandbox, "alpine"), (Older, "debian")):
                async with cls.create(server_url=self.url) as sandbox:
                    self.assertIn(f'"image": "{image}"', (await sandbox.run("params")).stdout)

        asyncio.run(main())

    def test_a_late_start_warns(self):
        async def main():
            with self.assertWarnsRegex(RuntimeWarning, "timed out waiting"):
                sandbox = await microsandbox.PythonSandbox.create(server_url=self.url, name="late-w")
            await sandbox.stop()

        asyncio.run(main())

    def test_an_answer_before_the_whole_request_is_read(self):
        """A server that refuses a body closes the connection while more of it is on its way."""

        async def main():
            async def refuse(reader, writer):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b'HTTP/1.1 413 Content Too Large\r\nContent-Length: 28\r\n\r\n{"error":"big","code":null}\n')
                with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                    await reader.read()
                writer.close()

            server = await asyncio.start_server(refuse, "127.0.0.1", 0, limit=1 << 14)
            port = server.sockets[0].getsockname()[1]
            for module in (microsandbox, microsandbox.sync):
                sandbox = module.PythonSandbox(f"http://127.0.0.1:{port}")
                sandbox._is_started = True

                async def call():
                    if module is microsandbox:
                        await sandbox.run("x" * 300_000)
                    else:
                        await asyncio.to_thread(sandbox.run, "x" * 300_000)

                with self.assertRaises(errors.ApiError) as caught:
                    await call()
                self.assertEqual((caught.exception.http_status, str(caught.exception)), (413, "big"))
            server.close()

        asyncio.run(main())


class Sync(WithPeer):
    def test_threads_share_a_sandbox(self):
        with microsandbox.sync.PythonSandbox.create(server_url=self.url) as sandbox:
            found = []

            def work():
                for _ in range(20):
                    found.append(sandbox.run("hello").output())

            threads = [threading.Thread(target=work) for _ in range(4)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual(found, ["hello"] * 80)

    def test_stops_after_an_exception(self):
        with self.assertRaises(KeyError):
            with microsandbox.sync.PythonSandbox.create(server_url=self.url, name="sctx"):
                raise KeyError
        with microsandbox.sync.PythonSandbox(self.url) as other:
            self.assertEqual(other.run("stopped sctx").output(), "hello")


class Parts(unittest.TestCase):
    def test_every_error_of_the_schema_is_known(self):
        generic = {"ParseError", "InvalidRequest", "MethodNotFound", "Internal"}
        self.assertEqual(set(_wire.ERRORS.values()) - set(errors.BY_NAME), generic)

    def test_errors_are_what_python_programs_catch(self):
        for cls, base in (
            (errors.UnreachableError, ConnectionError),
            (errors.RequestTimeoutError, TimeoutError),
            (errors.CommandTimeoutError, TimeoutError),
            (errors.InvalidParamsError, ValueError),
            (errors.SandboxNotFoundError, LookupError),
            (errors.ApiError, RuntimeError),
        ):
            self.assertTrue(issubclass(cls, base) and issubclass(cls, errors.MicrosandboxError))

    def test_an_answer_split_anywhere(self):
        answer = (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: x\r\n\r\n"
        )
        for cut in range(1, len(answer)):
            reader = _http.ResponseReader()
            reader.feed(answer[:cut])
            self.assertFalse(reader.done)
            reader.feed(answer[cut:])
            self.assertTrue(reader.done and reader.keep_alive)
            self.assertEqual((reader.status, reader.take()), (200, b"hello world"))

    def test_more_than_the_answer_makes_a_connection_useless(self):
        reader = _http.ResponseReader()
        reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n")
        self.assertTrue(reader.done)
        self.assertFalse(reader.keep_alive)

    def test_env_file(self):
        path = pathlib.Path(self.enterContext(_temporary_directory()), ".env")
        path.write_text("# MSB_A=1\nMSB_B=x # note\nexport MSB_C=\"a # b\"\n MSB_D = 'q' \nOTHER=1\nMSB_E=\nMSB_F\nMSB_G='open\n")
        want = {"MSB_B": "x", "MSB_C": "a # b", "MSB_D": "q", "MSB_E": "", "MSB_G": "'open"}
        self.assertEqual(_settings.read_env_file(str(path)), want)
        self.assertEqual(_settings.read_env_file(str(path) + "x"), {})

    if not hasattr(unittest.TestCase, "enterContext"):  # before 3.11

        def enterContext(self, cm):
            value = cm.__enter__()
            self.addCleanup(cm.__exit__, None, None, None)
            return value


def _temporary_directory():
    import tempfile

    return tempfile.TemporaryDirectory()


if __name__ == "__main__":
    unittest.main()
