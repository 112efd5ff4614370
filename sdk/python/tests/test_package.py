# SPDX-License-Identifier: Apache-2.0
"""What is Python's own; what all SDKs share is in tests/conformance."""
import asyncio
import contextlib
import errno
import gc
import io
import pathlib
import subprocess
import sys
import threading
import unittest
import warnings

import microsandbox
import microsandbox.sync
from microsandbox import _events, _http, _settings, _websocket, _wire, errors

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


    def test_output_in_the_ways_of_the_language(self):
        async def main():
            async with microsandbox.PythonSandbox.create(server_url=self.url, name="out") as sandbox:
                self.assertEqual([o.text async for o in sandbox.command.stream("plain")], ["hello\n", "a\ufffdb"])
                async with sandbox.command.stream("never") as stream:
                    async for output in stream:
                        break
                self.assertEqual(output, microsandbox.Output("stdout", b"hello\n", "hello\n"))
                self.assertEqual(await (await sandbox.run("vanished")).output(), "hello")
                stream = await sandbox.command.stream("plain")
                self.assertEqual((await stream.wait()).signal, 15)
                async with sandbox.command.start("plain") as process:
                    self.assertEqual([o.text async for o in process], ["hello\n", "oops"])
                self.assertTrue(process.exit.success)

        asyncio.run(main())

    def test_a_listener_may_be_a_coroutine(self):
        async def main():
            heard = []

            async def listen(text):
                await asyncio.sleep(0)
                heard.append(text)

            async with microsandbox.PythonSandbox.create(server_url=self.url) as sandbox:
                await sandbox.run("plain", on_stdout=listen)
                with self.assertRaises(ZeroDivisionError):  # what a listener raises ends the call
                    await sandbox.run("plain", on_stderr=lambda text: 1 / 0)
            self.assertEqual(heard, ["hello\n"])

        asyncio.run(main())

    def test_files_of_this_machine(self):
        async def main():
            async def pieces():
                yield b"ab"
                yield b""
                yield b"c"

            async with microsandbox.PythonSandbox.create(server_url=self.url) as sandbox:
                for source, size in ((io.BytesIO(b"abcd"), 4), ([b"ab", bytearray(b"c")], 3), (pieces(), 3)):
                    self.assertEqual((await sandbox.files.upload("/up", source)).size, size)
                target = io.BytesIO()
                self.assertEqual(await sandbox.files.download("/chunked", target), 5)
                self.assertEqual(target.getvalue(), b"hello")
                async with await sandbox.files.read_stream("/chunked") as stream:
                    self.assertEqual(b"".join([piece async for piece in stream]), b"hello")
                for bad in ("text", b"bytes"):
                    with self.assertRaises(TypeError):
                        await sandbox.files.upload("/up", bad)
                with self.assertRaises(FileNotFoundError) as caught:
                    await sandbox.files.read("/gone")
                self.assertEqual((caught.exception.errno, caught.exception.path), (errno.ENOENT, "/gone"))

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


    def test_output_and_files(self):
        with microsandbox.sync.PythonSandbox.create(server_url=self.url, name="sout") as sandbox:
            self.assertEqual([o.text for o in sandbox.command.stream("plain")], ["hello\n", "a\ufffdb"])
            with sandbox.command.stream("never") as stream:
                self.assertEqual(next(stream).text, "hello\n")
            self.assertEqual(sandbox.run("vanished").output(), "hello")
            self.assertEqual(sandbox.files.upload("/up", io.BytesIO(b"abcd")).size, 4)
            with sandbox.files.read_stream("/chunked") as stream:
                self.assertEqual(b"".join(stream), b"hello")

    def test_one_thread_writes_while_another_reads(self):
        with microsandbox.sync.PythonSandbox.create(server_url=self.url) as sandbox:
            with sandbox.command.start("echo") as process:
                next(process)

                def write():
                    for _ in range(50):
                        process.write(b"x" * 100_000)
                    process.close_stdin()

                thread = threading.Thread(target=write)
                thread.start()
                got = sum(len(o.data) for o in process if o.stream == "stdout")
                thread.join()
            self.assertEqual(got, 5_000_000)

    def test_close_wakes_a_thread_that_reads(self):
        with microsandbox.sync.PythonSandbox.create(server_url=self.url, name="wake") as sandbox:
            process = sandbox.command.start("never")
            next(process)
            found = []

            def read():
                try:
                    next(process)
                except errors.UnreachableError as e:
                    found.append(e)

            thread = threading.Thread(target=read)
            thread.start()
            process.close()
            thread.join()
            self.assertEqual(len(found), 1)
            self.assertEqual(sandbox.run("vanished").output(), "hello")


class Parts(unittest.TestCase):
    def test_errors_of_files_are_those_of_python(self):
        for name, cls in (("ENOENT", FileNotFoundError), ("EEXIST", FileExistsError), ("EACCES", PermissionError),
                          ("EISDIR", IsADirectoryError), ("ENOTDIR", NotADirectoryError), ("ENOSPC", OSError)):
            e = errors.api_error(errors.FileError, "why", -32007, 400, {"errno": name, "path": "/p"})
            self.assertIsInstance(e, cls)
            self.assertIsInstance(e, errors.FileError)
            self.assertEqual((e.errno, e.errno_name, e.path, str(e)), (getattr(errno, name), name, "/p", "why"))
        e = errors.api_error(errors.FileError, "why", -32007, 400, {"errno": "ENEW"})
        self.assertEqual((e.errno, e.errno_name, e.path), (None, "ENEW", None))

    def test_events_split_anywhere(self):
        data = b': c\r\nevent: a\r\ndata: {"x":\r\ndata:1}\r\n\r\n\nid: 1\n\nevent:b\ndata: {}\n\n'
        for cut in range(len(data)):
            reader, found = _events.EventReader(), []
            for part in (data[:cut], data[cut:]):
                reader.feed(part)
                found += iter(reader.next, None)
            self.assertEqual(found, [("a", {"x": 1}), ("b", {})])

    def test_frames_split_anywhere(self):
        data = b"\x02\x02ab\x89\x01p\x80\x01c\x88\x02\x03\xe8"
        for cut in range(len(data)):
            reader, found = _websocket.Reader(), []
            for part in (data[:cut], data[cut:]):
                reader.feed(part)
                found += iter(reader.next, None)
            self.assertEqual(found, [(9, b"p"), (2, b"abc"), (8, b"\x03\xe8")])

    def test_frames_are_masked(self):
        self.assertEqual(_websocket.accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        for n, head in ((0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)):
            frame = _websocket.encode(2, b"\x07" * n)
            mask, masked = frame[head : head + 4], frame[head + 4 :]
            self.assertEqual(bytes(b ^ mask[i % 4] for i, b in enumerate(masked)), b"\x07" * n)

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
