# SPDX-License-Identifier: Apache-2.0
"""msx as people use it: one command, its streams, its status."""
import hashlib
import os
import subprocess
import threading
import time

import pytest

from conftest import ENGINE, MSX, MSX_ENGINE, with_time_enough

PY = ("python", "--", "-c")


def test_runs_python_on_our_kernel(box):
    p = box.msx("-q", *PY, 'print("hello from", __import__("os").uname().release)', check=0)
    assert p.stdout.startswith(b"hello from 6.1.") and p.stdout.count(b"\n") == 1
    assert os.uname().release.encode() not in p.stdout
    assert p.stderr == b""
    box.assert_nothing_left()


def test_says_that_it_emulates_unless_quiet(box):
    """Only where nobody has asked for emulation."""
    p = subprocess.run([MSX, "python", "-e", "/bin/true"], env=box.env, stdin=subprocess.DEVNULL,
                       stderr=subprocess.PIPE, timeout=120)
    assert p.returncode == 0
    if ENGINE == "kvm":
        assert p.stderr == b""
    else:
        assert p.stderr.count(b"\n") == 1 and b"emulation" in p.stderr


@pytest.mark.parametrize("code,status", [
    ("import sys; sys.exit(7)", 7),
    ("import os; os._exit(255)", 255),
    ("import os; os.kill(os.getpid(), 9)", 137),
    ("import os; os.abort()", 134),
    ("raise SystemExit", 0),
])
def test_exit_status_is_the_commands(box, code, status):
    box.msx("-q", *PY, code, check=status)


def test_streams_are_separate_and_exact(box):
    code = ("import sys; d = sys.stdin.buffer.read(); sys.stdout.buffer.write(d + b'\\0out');"
            "sys.stderr.buffer.write(b'err\\xff')")
    p = box.msx("-q", *PY, code, stdin=b"a\nb\0\xff", check=0)
    assert p.stdout == b"a\nb\0\xff\0out"
    assert p.stderr == b"err\xff"


def test_arguments_are_any_bytes(box):
    args = [b"a\n\tb", "ü".encode(), b"\xff\xfe", b"", b"--", b"'\"$x"]
    code = "import os, sys; sys.stdout.buffer.write(b'\\0'.join(os.fsencode(a) for a in sys.argv[1:]))"
    p = box.msx("-q", *PY, code, *args, check=0)
    assert p.stdout.split(b"\0") == args


def test_a_hundred_megabytes_unchanged(box):
    # A tenth where both the machine and its VM are emulated: as many credit windows as make no difference.
    size = 10_000_000 if os.environ.get("LAB") else 100_000_000
    producer = subprocess.Popen(["head", "-c", str(size), "/dev/urandom"], stdout=subprocess.PIPE)
    tee = subprocess.Popen(["tee", "/dev/fd/2"], stdin=producer.stdout, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE)
    msx = box.start("-q", "python", "-e", "/bin/cat", stdin=tee.stdout)
    tee.stdout.close()
    sent, got = hashlib.sha256(), hashlib.sha256()

    def drain(f, h):
        for block in iter(lambda: f.read(1 << 16), b""):
            h.update(block)

    threads = [threading.Thread(target=drain, args=a) for a in ((tee.stderr, sent), (msx.stdout, got))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert msx.wait() == 0
    assert sent.digest() == got.digest()


def test_output_without_a_reader_ends_the_command(box):
    p = subprocess.run(["bash", "-c", f"{' '.join(MSX_ENGINE)} -q python -e /usr/bin/yes | head -n 1; exit ${{PIPESTATUS[0]}}"],
                       env=box.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    assert p.stdout == b"y\n"
    assert p.returncode == 141, p.stderr
    box.assert_nothing_left()


def test_stdin_may_be_closed_or_null(box):
    p = subprocess.run(["sh", "-c", f"exec {' '.join(MSX_ENGINE)} -q python -e /bin/cat <&-"], env=box.env, timeout=120)
    assert p.returncode == 0
    p = subprocess.run([*MSX_ENGINE, "-q", "python", "-e", "/bin/cat"], env=box.env, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, timeout=120)
    assert p.returncode == 0 and p.stdout == b""


def test_stdin_may_be_a_file(box, tmp_path):
    path = tmp_path / "input"
    path.write_bytes(os.urandom(3_000_000))
    with open(path, "rb") as f:
        p = box.start("-q", "python", "-e", "/bin/cat", stdin=f)
        out, err = p.communicate()
    assert p.returncode == 0, err
    assert out == path.read_bytes()


def test_env_workdir_user_and_limits(box):
    code = ("import os, resource; print(os.environ['A'], os.environ.get('HOME'), os.getcwd(), os.getuid(),"
            "os.getgid(), resource.getrlimit(resource.RLIMIT_NOFILE))")
    p = box.msx("-q", "python", "--env", "A=x=1", "--workdir", "/usr/lib", "--user", "1234:77",
                "--rlimit", "nofile=100:200", "--", "-c", code, check=0)
    words = p.stdout.decode().split()
    assert words[0] == "x=1" and words[2:5] == ["/usr/lib", "1234", "77"]
    assert p.stdout.strip().endswith(b"(100, 200)")


def test_user_by_name_with_its_groups(box):
    p = box.msx("-q", "python", "--user", "nobody", "-e", "/usr/bin/id", check=0)
    assert p.stdout.startswith(b"uid=65534(nobody)")


def test_clock_is_right_before_user_code(box):
    p = box.msx("-q", *PY, "import time; print(time.time())", check=0)
    assert abs(float(p.stdout) - time.time()) < 60


def test_resources_are_as_asked(box):
    code = ("import os; print(os.cpu_count()); print(open('/proc/meminfo').readline());"
            "s = os.statvfs('/'); print(s.f_blocks * s.f_frsize)")
    p = box.msx("-q", "python", "--cpus", "2", "--memory", "768M", "--disk", "1G", "--", "-c", code, check=0)
    lines = p.stdout.decode().split("\n")
    assert lines[0] == "2"
    assert 650 * 1024 < int(lines[1].split()[1]) < 768 * 1024
    assert 850 << 20 < int(lines[3]) <= 1 << 30


def test_timeout_kills_and_says_so(box):
    code = "print('started', flush=True)\nwhile True: pass"
    p = with_time_enough(lambda s: box.msx("-q", "python", "--timeout", str(s), "--", "-c", code),
                         lambda p: p.returncode != 124 or p.stdout)
    assert p.returncode == 124
    assert p.stdout == b"started\n"
    assert b"time limit" in p.stderr
    box.assert_nothing_left()


def test_program_not_found_and_not_executable(box):
    p = box.msx("-q", "python", "-e", "/no/such/program", check=127)
    assert b"/no/such/program" in p.stderr and p.stderr.count(b"\n") == 1
    p = box.msx("-q", "python", "-e", "/etc/passwd", check=126)
    assert b"/etc/passwd" in p.stderr
    p = box.msx("-q", "python", "--user", "nosuchuser", "-e", "/bin/true", check=125)
    assert b"nosuchuser" in p.stderr
    p = box.msx("-q", "python", "--workdir", "/no/dir", "-e", "/bin/true")
    assert p.returncode not in (0,) and b"/no/dir" in p.stderr


def test_script_shell(box):
    p = box.msx("-q", "python~shell", "--", "-c", 'echo "$0:$1"', "zero", "one", check=0)
    assert p.stdout == b"zero:one\n"


def test_nothing_survives_in_the_next_sandbox(box):
    box.msx("-q", "python~shell", "--", "-c", "echo x > /root/mark && sync", check=0)
    box.msx("-q", "python~shell", "--", "-c", "test ! -e /root/mark", check=0)


def test_two_sandboxes_at_once(box):
    a = box.start("-q", "python", "-e", "/bin/cat")
    b = box.start("-q", "python", "-e", "/bin/cat")
    for p, text in ((a, b"aaa"), (b, b"bbb")):
        out, err = p.communicate(text)
        assert (p.returncode, out) == (0, text), err
    box.assert_nothing_left()


def test_node(box):
    assert box.msx("-q", "node", "--", "-e", "console.log(1+1)", check=0).stdout == b"2\n"


def test_pip_and_venv_work(box):
    code = ("set -e; python -m venv /tmp/v; /tmp/v/bin/python -c 'import sys; print(sys.prefix)'; "
            "pip --version >/dev/null; test ! -e /usr/lib/python3.11/EXTERNALLY-MANAGED")
    p = box.msx("-q", "python~shell", "--", "-c", code, check=0)
    assert p.stdout == b"/tmp/v\n"
