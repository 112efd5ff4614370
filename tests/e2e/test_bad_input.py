# SPDX-License-Identifier: Apache-2.0
"""Bad input: one line that says what to do, a status that is not 0, and nothing left behind."""
import json
import os
import shutil
import subprocess

import pytest

from conftest import BUILD, MSX, MSX_ENGINE, STORE, wait_for


def one_line(p, status, *words):
    assert p.returncode == status, (p.returncode, p.stderr)
    errors = [l for l in p.stderr.decode(errors="replace").splitlines() if "error:" in l]
    assert len(errors) == 1, p.stderr
    for w in words:
        assert w in errors[0], errors[0]
    assert p.stdout == b""


@pytest.mark.parametrize("args,words", [
    (["python", "--memory", "12x"], ["--memory", "12x"]),
    (["python", "--memory", "1M"], ["--memory"]),
    (["python", "--memory", "99999999T"], ["--memory"]),
    (["python", "--cpus", "0"], ["--cpus"]),
    (["python", "--cpus", "-1"], ["--cpus"]),
    (["python", "--env", "novalue"], ["KEY=VALUE"]),
    (["python", "--workdir", "relative"], ["absolute"]),
    (["python", "--scope", "local"], ["none, public, any"]),
    (["python", "--scope", "group"], ["not supported yet"]),
    (["python", "-v", "/tmp:/tmp"], ["not supported yet"]),
    (["python", "-p", "80:80"], ["not supported yet"]),
    (["python", "--engine", "xen"], ["auto, kvm, tcg"]),
    (["python", "--timeout", "soon"], ["--timeout"]),
    (["python", "--nosuch"], ["--nosuch"]),
    (["python", "--memory"], ["needs a value"]),
    (["python", "script.py"], ["--"]),
    (["python~nosuch"], ["nosuch"]),
    ([], ["which image"]),
])
def test_usage(box, args, words):
    one_line(box.msx(*args), 2, *words)
    box.assert_nothing_left()


def test_unknown_image(box):
    one_line(box.msx("-q", "nosuchimage"), 125, "nosuchimage", "msb image")
    one_line(box.msx("-q", "UPPER CASE"), 125, "UPPER")


def test_kvm_fails_closed(box):
    one_line(box.msx("-q", "--engine", "kvm", "python"), 125, "kvm")


def test_kernel_that_is_none(box, tmp_path):
    path = tmp_path / "vmlinux"
    one_line(box.msx("-q", "--kernel", str(path), "python"), 125, str(path))
    path.write_bytes(os.urandom(100_000))
    one_line(box.msx("-q", "--kernel", str(path), "python", "-e", "/bin/true"), 125)
    path.write_bytes(b"")
    one_line(box.msx("-q", "--kernel", str(path), "python", "-e", "/bin/true"), 125, "kernel")
    box.assert_nothing_left()


# A kernel that does nothing, for ever: an ELF file with a PVH note and `jmp .`.
SILENT_KERNEL = r"""
	.section .note.Xen, "a", @note
	.long 4, 4, 18
	.asciz "Xen"
	.long _start
	.text
	.code32
	.globl _start
_start:	jmp _start
"""


def test_guest_that_never_answers(box, tmp_path):
    source, kernel = tmp_path / "k.S", tmp_path / "vmlinux"
    source.write_text(SILENT_KERNEL)
    subprocess.run(["gcc", "-m64", "-nostdlib", "-static", "-no-pie", "-Wl,-Ttext=0x100000", "-Wl,--build-id=none",
                    "-o", kernel, source], check=True)
    one_line(box.msx("-q", "--kernel", str(kernel), "--boot-timeout", "1", "python", "-e", "/bin/true"), 125,
             "did not answer", "--boot-timeout")
    box.assert_nothing_left()


@pytest.fixture
def broken_store(box):
    """A store of its own whose one root image may be damaged: (box, path of the root image)."""
    os.unlink(box.home / "images")
    shutil.copytree(STORE, box.home / "images", symlinks=True,
                    ignore=lambda d, names: [n for n in names if n in ("tmp",)])
    p = box.msb("image", "inspect", "python", "--json")
    assert p.returncode == 0, p.stderr
    info = json.loads(p.stdout)
    paths = [os.path.join(d, n) for d, _, names in os.walk(box.home / "images/rootfs") for n in names]
    wanted = [q for q in paths if os.path.basename(q) in json.dumps(info)]
    assert len(wanted) == 1, (info, paths)
    return box, wanted[0]


def test_truncated_root_image(broken_store):
    box, path = broken_store
    os.truncate(path, os.path.getsize(path) // 2)
    one_line(box.msx("-q", "python", "-e", "/bin/true"), 125, "image")
    box.assert_nothing_left()


def test_corrupt_root_image(broken_store):
    box, path = broken_store
    with open(path, "r+b") as f:
        f.write(os.urandom(8192))
    one_line(box.msx("-q", "python", "-e", "/bin/true"), 125, "image")
    box.assert_nothing_left()


def test_home_that_cannot_be_written(box):
    p = subprocess.run([*MSX_ENGINE, "-q", "python"], env=dict(box.env, MICROSANDBOX_HOME="/proc/nope"),
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    one_line(p, 125, "/proc/nope")
    p = subprocess.run([*MSX_ENGINE, "-q", "python"], env=dict(box.env, MICROSANDBOX_HOME="relative"),
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    one_line(p, 125, "absolute")


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")


@needs_root
def test_full_disk(box):
    """The home lies on a file system with no room left."""
    small = box.home / "small"
    small.mkdir()
    script = f"""mount -t tmpfs -o size=64k none {small} && ln -s {STORE} {small}/images &&
        {{ head -c 1M /dev/zero > {small}/fill || true; }} 2>/dev/null
        MICROSANDBOX_HOME={small} {' '.join(MSX_ENGINE)} -q python -e /bin/true; s=$?
        rm {small}/fill; ls {small}/run; exit $s"""
    p = subprocess.run(["unshare", "-m", "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, timeout=180)
    one_line(p, 125, "No space left")


@needs_root
def test_no_qemu(box):
    script = f"mount --bind /dev/null /usr/bin/qemu-system-x86_64 && exec {MSX} --engine tcg -q python -e /bin/true"
    p = subprocess.run(["unshare", "-m", "sh", "-c", script], env=box.env, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=180)
    one_line(p, 125, "qemu-system-x86")


# A PID 1 that behaves as a hostile guest would, in place of our agent.
HOSTILE_INIT = r"""
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
static int port(const char *want)
{
	for (;;) {
		DIR *d = opendir("/sys/class/virtio-ports");
		struct dirent *e;
		while (d && (e = readdir(d))) {
			char path[400], name[64] = "";
			FILE *f;
			snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", e->d_name);
			f = fopen(path, "r");
			if (!f) continue;
			if (!fgets(name, sizeof(name), f)) name[0] = 0;
			fclose(f);
			name[strcspn(name, "\n")] = 0;
			if (!strcmp(name, want)) {
				snprintf(path, sizeof(path), "/dev/%s", e->d_name);
				return open(path, O_RDWR);
			}
		}
		if (d) closedir(d);
	}
}
int main(void)
{
	static char junk[1 << 16];
	mkdir("/dev", 0755); mkdir("/sys", 0755);
	mount("d", "/dev", "devtmpfs", 0, 0);
	mount("s", "/sys", "sysfs", 0, 0);
	memset(junk, MODE == 1 ? 'A' : 0xff, sizeof(junk));
	int fd = MODE == 1 ? open("/dev/hvc0", O_RDWR) : port("agent.ctl");
	for (;;) if (write(fd, junk, sizeof(junk)) < 0) break;
	for (;;) pause();
}
"""


@pytest.fixture
def hostile(tmp_path):
    """An installation of its own whose initramfs holds a hostile init."""
    def make(mode):
        source, init = tmp_path / "init.c", tmp_path / "root/init"
        init.parent.mkdir()
        source.write_text(HOSTILE_INIT)
        subprocess.run(["musl-gcc", "-static", "-O1", "-w", f"-DMODE={mode}", "-o", init, source], check=True)
        parts = tmp_path / "lib/microsandbox"
        parts.mkdir(parents=True)
        (tmp_path / "bin").mkdir()
        shutil.copy2(BUILD / "bin/msb", tmp_path / "bin/msb")
        os.symlink("msb", tmp_path / "bin/msx")
        for n in ("msb-net", "msb-image", "vmlinux"):
            shutil.copy2(BUILD / "lib/microsandbox" / n, parts / n)
        subprocess.run("echo init | cpio -o -H newc --quiet | gzip > ../lib/microsandbox/initramfs.cpio.gz",
                       shell=True, cwd=init.parent, check=True)
        return str(tmp_path / "bin/msx")
    return make


def run_hostile(box, msx, *args):
    return subprocess.run([msx, "-q", *args, "python", "-e", "/bin/true"], env=box.env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=180)


def test_guest_that_sends_garbage_on_the_agent_port(box, hostile):
    one_line(run_hostile(box, hostile(2)), 125, "garbage")
    box.assert_nothing_left()


def test_guest_that_floods_its_console(box, hostile):
    msx = hostile(1)
    p = subprocess.Popen([msx, "-q", "--boot-timeout", "5", "python", "-e", "/bin/true"], env=box.env,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    log = wait_for(lambda: box.sandboxes())[0] + "/log/console.log.old"
    wait_for(lambda: os.path.exists(log) or p.poll() is not None)
    size = sum(os.path.getsize(os.path.join(os.path.dirname(log), n)) for n in os.listdir(os.path.dirname(log))) \
        if os.path.exists(log) else 0
    out, err = p.communicate(timeout=120)
    assert p.returncode == 125 and b"did not answer" in err
    assert 0 < size <= 3 << 20
    box.assert_nothing_left()
