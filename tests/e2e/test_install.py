# SPDX-License-Identifier: Apache-2.0
"""An installed msb works without source tree and kernel cache, can be moved, and can be removed."""
import os
import subprocess

import pytest

from conftest import ROOT, STORE

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to hide the source tree")


def make(*args):
    p = subprocess.run(["make", "--no-print-directory", "-C", ROOT, *args], stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert p.returncode == 0, p.stdout.decode()


def test_install_run_move_uninstall(box, tmp_path):
    make("install", "PREFIX=/opt/msb", f"DESTDIR={tmp_path}")
    first, moved = tmp_path / "opt/msb", tmp_path / "elsewhere"
    os.rename(first, moved)
    os.unlink(box.home / "images")
    subprocess.run(["cp", "-a", STORE, box.home / "images"], check=True)
    cache = os.path.expanduser("~/.cache")
    script = f"""mount -t tmpfs none {ROOT} && mkdir -p {cache} && mount -t tmpfs none {cache} &&
        cd / && {moved}/bin/msb doctor && exec {moved}/bin/msx -q python -- -c 'print(6 * 7)'"""
    p = subprocess.run(["unshare", "-m", "sh", "-c", script], env=box.env, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=180)
    assert p.returncode == 0, (p.stdout, p.stderr)
    assert p.stdout.endswith(b"\n42\n") and str(ROOT).encode() not in p.stdout
    assert (moved / "share/man/man1/msb.1").exists()
    os.rename(moved, first)
    make("uninstall", "PREFIX=/opt/msb", f"DESTDIR={tmp_path}")
    left = [f for f in first.rglob("*") if not f.is_dir()]
    assert not left, left
