# SPDX-License-Identifier: Apache-2.0
# Runs inside the image's own Python, 3.7 or newer; see docs/agent-protocol.md.
#
# Descriptor 7 brings one line per call, "CALL LENGTH RESULTS"; descriptor 8 is a memory
# file with the code, then for the call's results (if RESULTS is 1); on descriptor 9 goes
# one line per call, "CALL STATUS 0", when it is done, and "CALL 3 END" when the results
# are whole up to END.  Nothing is imported that a plain start of Python has not loaded already: a
# module more is milliseconds of every cold start.
import sys


def _msb_main():
    import _ast
    import _signal
    import _thread
    import builtins
    import io
    import __main__
    from os import environ
    from posix import _exit, getpid, pread, pwrite, read, set_inheritable, write

    OK, EXCEPTION, RESULT = 0, 1, 3
    RESULTS_MAX, RESULTS_COUNT = 8 << 20, 64
    ONLY_AST, TOP_LEVEL_AWAIT, COROUTINE = 0x400, 0x2000, 0x80
    SOURCES_MAX = 4 << 20
    me = getpid()
    main_thread = _thread.get_ident()
    names = __main__.__dict__
    sources = {}  # file name -> code, for tracebacks
    state = {"running": False, "flags": 0, "loop": None, "stale": frozenset(),
             "call": 0, "results": False, "end": 0, "bytes": 0, "count": 0, "last": None}
    figures = []  # those that this call has shown
    results_lock = _thread.allocate_lock()

    # Threads that an earlier call left behind may not write into the output of a later
    # one.  The class of the stream is changed only while there are such threads: its
    # write() in Python is slower than the one in C.
    class Output(io.TextIOWrapper):
        pass

    class FilteredOutput(Output):
        def write(self, text):
            if _thread.get_ident() in state["stale"]:
                return len(text)
            return super().write(text)

    def open_output(old):
        # line_buffering: what a program prints and what its children print stay in order
        return Output(old.detach(), encoding=old.encoding, errors=old.errors,
                      line_buffering=True)

    def on_sigint(signum, frame):
        # Never in the driver itself: the call may have ended just now.
        if state["running"] or getpid() != me:
            raise KeyboardInterrupt

    def remember(name, code):
        sources[name] = code
        while len(sources) > 1 and sum(map(len, sources.values())) > SOURCES_MAX:
            del sources[next(iter(sources))]

    def publish_sources():
        import linecache
        for name, code in sources.items():
            if name not in linecache.cache:
                lines = [line + "\n" for line in code.split("\n")]
                linecache.cache[name] = (len(code), None, lines, name)

    def report_exception(error):
        # What the driver called on the way is no business of the user's.
        tb = error.__traceback__
        while tb is not None and tb.tb_frame.f_code.co_filename not in sources:
            tb = tb.tb_next
        last = tb
        while last is not None and last.tb_next is not None:
            if last.tb_next.tb_frame.f_code.co_filename == "<msb>":
                last.tb_next = last.tb_next.tb_next  # the signal handler, display()
            else:
                last = last.tb_next
        error.__traceback__ = tb
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, tb
        publish_sources()
        if sys.excepthook is not sys.__excepthook__:
            sys.excepthook(type(error), error, tb)
            return
        import traceback
        traceback.print_exception(type(error), error, tb)

    def is_ours():
        """Does this thread of this process belong to the call that runs?"""
        return getpid() == me and _thread.get_ident() not in state["stale"]

    # One entry of a call's results: a length, the body of a REPL_RESULT, the data.
    def put(mime, data, note=""):
        with results_lock:
            if not state["results"] or state["count"] >= RESULTS_COUNT or not is_ours():
                return
            state["count"] += 1
            if not is_mime(mime):
                mime, data, note = "application/octet-stream", b"", "not a MIME type: %.100r" % mime
            if state["count"] == RESULTS_COUNT:
                data, note = b"", "more than %d results: the others are left out" % (RESULTS_COUNT - 1)
            elif len(data) > RESULTS_MAX - state["bytes"]:
                note = "left out: %d bytes, the results of a call have %d" % (len(data), RESULTS_MAX)
                data = b""
            name = mime.encode()
            note = note.replace("\0", " ").encode("utf-8", "replace")[:255]
            head = b"".join((len(name).to_bytes(4, "little"), name, len(data).to_bytes(8, "little"),
                             len(note).to_bytes(4, "little"), note))
            left = memoryview(len(head).to_bytes(4, "little") + head + data)
            end = state["end"]
            while left:
                n = pwrite(8, left, end)
                left, end = left[n:], end + n
            write(9, b"%d %d %d\n" % (state["call"], RESULT, end))
            state["bytes"] += len(data)
            state["end"] = end

    # As the agent has it (RFC 6838): an entry with another type would end the results.
    def is_mime(mime):
        parts = mime.split("/")
        return len(parts) == 2 and all(
            0 < len(p) < 128 and p.isascii() and p[0].isalnum() and
            all(c.isalnum() or c in "!#$&-^_.+" for c in p) for p in parts)

    def is_text(mime):
        return mime.startswith("text/") or any(s in mime for s in ("json", "xml", "javascript"))

    # What a method gave, with or without metadata.  Pictures come as bytes or in base64.
    def put_data(mime, data):
        if isinstance(data, tuple) and len(data) == 2:
            data = data[0]
        if data is None:
            return
        if isinstance(data, str) and is_text(mime.lower()):
            data = data.encode("utf-8", "backslashreplace")
        elif isinstance(data, str):
            if not BASE64.issuperset(data):
                raise ValueError("neither bytes nor base64")
            import binascii
            data = binascii.a2b_base64(data)
        elif isinstance(data, (bytes, bytearray, memoryview)):
            data = bytes(data)
        elif "json" in mime.lower():
            import json
            data = json.dumps(data).encode()
        else:
            raise TypeError("expected bytes or str, not " + type(data).__name__)
        put(mime, data)

    def put_safely(mime, what, method, *args, **kwargs):
        try:
            put_data(mime, method(*args, **kwargs))
        except Exception as error:
            put(mime, b"", "%s raised %s" % (what, describe_error(error)))

    def describe_error(error):
        try:
            return "%s: %s" % (type(error).__name__, error)
        except Exception:
            return type(error).__name__

    def put_bundle(value, seen):
        bundle = value._repr_mimebundle_(include=None, exclude=None)
        if isinstance(bundle, tuple):
            bundle = bundle[0]
        for mime, data in dict(bundle or {}).items():
            if str(mime) not in seen:
                seen.add(str(mime))
                put_safely(str(mime), "_repr_mimebundle_", lambda: data)

    def figure_png(figure):
        out = io.BytesIO()
        figure.savefig(out, format="png", bbox_inches="tight")
        return out.getvalue()

    BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n")
    METHODS = (("html", "text/html"), ("markdown", "text/markdown"), ("svg", "image/svg+xml"),
               ("png", "image/png"), ("jpeg", "image/jpeg"), ("pdf", "application/pdf"),
               ("latex", "text/latex"), ("json", "application/json"),
               ("javascript", "application/javascript"))

    # The methods are looked up in the class, as Python's own: an object that has an answer
    # to every name is no picture.
    def put_value(value, text, figure=False):
        if not state["results"]:
            return
        put("text/plain", text.encode("utf-8", "backslashreplace"))
        seen = {"text/plain"}
        known = sys.modules.get("matplotlib.figure")
        if figure or (known and isinstance(value, getattr(known, "Figure", ()))):
            figures.append(value)
            seen.add("image/png")
            put_safely("image/png", "savefig", figure_png, value)
        if hasattr(type(value), "_repr_mimebundle_"):
            try:
                put_bundle(value, seen)
            except Exception as error:
                put("text/plain", b"", "_repr_mimebundle_ raised " + describe_error(error))
        for name, mime in METHODS:
            name = "_repr_%s_" % name
            method = getattr(type(value), name, None)
            if mime not in seen and callable(method):
                put_safely(mime, name, method, value)

    # As sys.__displayhook__, and the value is remembered.
    def displayhook(value):
        if is_ours():
            state["last"] = None
        if value is None:
            return
        builtins._ = None
        text = repr(value)
        try:
            sys.stdout.write(text)
        except UnicodeEncodeError:
            sys.stdout.write(text.encode(sys.stdout.encoding, "backslashreplace")
                             .decode(sys.stdout.encoding))
        sys.stdout.write("\n")
        builtins._ = value
        if state["results"] and is_ours():
            state["last"] = (value, text)

    def display(*values):
        """Shows values as the last expression of a call is shown."""
        for value in values:
            text = repr(value)
            print(text)
            put_value(value, text)

    # Figures that nobody has shown are shown at the end of a call, as in a notebook.
    def take_figures():
        plt = sys.modules.get("matplotlib.pyplot")
        if plt is None or not state["results"] or not is_ours():
            return
        try:
            if plt.get_backend().lower() != "agg":
                return
            for number in plt.get_fignums():
                figure = plt.figure(number)
                if not any(figure is f for f in figures):
                    put_value(figure, repr(figure), True)
            plt.close("all")
        except Exception as error:
            put("image/png", b"", "matplotlib raised " + describe_error(error))

    # show() shows what was drawn so far; what is drawn after it is another figure.
    class PyplotFinder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name != "matplotlib.pyplot":
                return None
            sys.meta_path.remove(PyplotFinder)
            import importlib.util
            spec = importlib.util.find_spec(name)
            if spec is not None and hasattr(spec.loader, "exec_module"):
                exec_module = spec.loader.exec_module

                def exec_and_hook(module):
                    exec_module(module)
                    show = module.show

                    def show_here(*args, **kwargs):
                        if not state["results"] or not is_ours() or module.get_backend().lower() != "agg":
                            return show(*args, **kwargs)
                        take_figures()

                    module.show = show_here
                spec.loader.exec_module = exec_and_hook
            return spec

    def run_coroutine(coroutine):
        import asyncio
        if state["loop"] is None or state["loop"].is_closed():
            state["loop"] = asyncio.new_event_loop()
        loop = state["loop"]
        asyncio.set_event_loop(loop)
        task = loop.create_task(coroutine)
        try:
            loop.run_until_complete(task)
        except KeyboardInterrupt:
            if not task.done():
                task.cancel()
                loop.run_until_complete(asyncio.wait([task], timeout=0.5))
            raise

    def execute(name, code):
        flags = state["flags"]
        if "await" in code or "async" in code:
            flags |= TOP_LEVEL_AWAIT
        tree = compile(code, name, "exec", ONLY_AST | flags, True)
        # As typed at a prompt: every statement on its own, expressions are shown.
        program = compile(_ast.Interactive(tree.body), name, "single", flags, True)
        if "__future__" in code:
            import __future__
            for feature in __future__.all_feature_names:
                flag = getattr(__future__, feature).compiler_flag
                state["flags"] |= program.co_flags & flag
        state["running"] = True
        if program.co_flags & COROUTINE:
            run_coroutine(eval(program, names))
        else:
            exec(program, names)
        if tree.body and isinstance(tree.body[-1], _ast.Expr) and state["last"]:
            put_value(*state["last"])

    def flush():
        for stream in {id(s): s for s in (sys.stdout, sys.stderr, sys.__stdout__,
                                          sys.__stderr__)}.values():
            try:
                stream.flush()
            except BaseException:
                pass

    def find_stale_threads():
        stale = frozenset()
        if _thread._count():
            stale = frozenset(sys._current_frames()) - {main_thread}
        state["stale"] = stale
        for stream in (sys.__stdout__, sys.__stderr__):
            try:
                stream.__class__ = FilteredOutput if stale else Output
            except TypeError:
                pass

    # Return: the exception, which was shown, or None.
    def attempt(what, *args):
        try:
            try:
                what(*args)
            finally:
                state["running"] = False
        except SystemExit:
            raise
        except BaseException as error:
            try:
                report_exception(error)
            except SystemExit:
                raise
            except BaseException:
                sys.__excepthook__(*sys.exc_info())
            return error

    def finish_results():
        state["running"] = True
        take_figures()

    def run(call, code, results):
        name = "<stdin-%d>" % call
        remember(name, code)
        find_stale_threads()
        state.update(call=call, results=results, end=0, bytes=0, count=0, last=None)
        error = attempt(execute, name, code)
        # After an interrupt there is no time to draw.
        if "matplotlib.pyplot" in sys.modules and not isinstance(error, KeyboardInterrupt):
            error = attempt(finish_results) or error
        state["last"] = None
        state["results"] = False
        del figures[:]
        status = EXCEPTION if error else OK
        if getpid() != me:  # a child that user code forked and that came back here
            flush()
            _exit(status)
        if "linecache" in sys.modules:
            publish_sources()
        flush()
        return status

    def next_call():
        line = b""
        while not line.endswith(b"\n"):
            part = read(7, 64)
            if not part:
                raise SystemExit(0)
            line += part
        call, length, results = map(int, line.split())
        code, at = [], 0
        while at < length:
            part = pread(8, min(length - at, 1 << 20), at)
            if not part:
                break
            code.append(part)
            at += len(part)
        return call, b"".join(code), results == 1

    for fd in (7, 8, 9):
        set_inheritable(fd, False)
    sys.stdout = sys.__stdout__ = open_output(sys.stdout)
    sys.stderr = sys.__stderr__ = open_output(sys.stderr)
    sys.argv = [""]
    sys.displayhook = sys.__displayhook__ = displayhook
    display.__qualname__, display.__module__ = "display", "builtins"
    builtins.display = display
    environ.setdefault("MPLBACKEND", "agg")
    sys.meta_path.insert(0, PyplotFinder)
    _signal.signal(_signal.SIGINT, on_sigint)
    write(9, b"0 0 0\n")
    while True:
        call, code, results = next_call()
        status = EXCEPTION
        try:
            status = run(call, code.decode("utf-8", "surrogateescape"), results)
        except KeyboardInterrupt:
            state["running"] = False
            sys.stderr.write("KeyboardInterrupt\n")
        write(9, b"%d %d 0\n" % (call, status))


_msb_main()
