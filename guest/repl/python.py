# SPDX-License-Identifier: Apache-2.0
# Runs inside the image's own Python, 3.7 or newer; see docs/agent-protocol.md.
#
# Descriptor 7 brings one line per call, "CALL LENGTH"; descriptor 8 is a memory file
# with the code; on descriptor 9 goes one line per call, "CALL STATUS 0", when it is
# done.  Nothing is imported that a plain start of Python has not loaded already: a
# module more is milliseconds of every cold start.
import sys


def _msb_main():
    import _ast
    import _signal
    import _thread
    import io
    import __main__
    from posix import _exit, getpid, pread, read, set_inheritable, write

    OK, EXCEPTION = 0, 1
    ONLY_AST, TOP_LEVEL_AWAIT, COROUTINE = 0x400, 0x2000, 0x80
    SOURCES_MAX = 4 << 20
    me = getpid()
    main_thread = _thread.get_ident()
    names = __main__.__dict__
    sources = {}  # file name -> code, for tracebacks
    state = {"running": False, "flags": 0, "loop": None, "stale": frozenset()}

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
                last.tb_next = None  # the signal handler
            last = last.tb_next
        error.__traceback__ = tb
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, tb
        publish_sources()
        if sys.excepthook is not sys.__excepthook__:
            sys.excepthook(type(error), error, tb)
            return
        import traceback
        traceback.print_exception(type(error), error, tb)

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

    def run(call, code):
        name = "<stdin-%d>" % call
        status = OK
        remember(name, code)
        find_stale_threads()
        try:
            try:
                execute(name, code)
            finally:
                state["running"] = False
        except SystemExit:
            raise
        except BaseException as error:
            status = EXCEPTION
            try:
                report_exception(error)
            except SystemExit:
                raise
            except BaseException:
                sys.__excepthook__(*sys.exc_info())
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
        call, length = map(int, line.split())
        code, at = [], 0
        while at < length:
            part = pread(8, min(length - at, 1 << 20), at)
            if not part:
                break
            code.append(part)
            at += len(part)
        return call, b"".join(code)

    for fd in (7, 8, 9):
        set_inheritable(fd, False)
    sys.stdout = sys.__stdout__ = open_output(sys.stdout)
    sys.stderr = sys.__stderr__ = open_output(sys.stderr)
    sys.argv = [""]
    _signal.signal(_signal.SIGINT, on_sigint)
    write(9, b"0 0 0\n")
    while True:
        call, code = next_call()
        status = EXCEPTION
        try:
            status = run(call, code.decode("utf-8", "surrogateescape"))
        except KeyboardInterrupt:
            state["running"] = False
            sys.stderr.write("KeyboardInterrupt\n")
        write(9, b"%d %d 0\n" % (call, status))


_msb_main()
