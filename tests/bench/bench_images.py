#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
What images cost: a pull to a runnable image beside `skopeo copy` to an OCI directory, from the same registry on
loopback in the same run; a tar to a root image; 100,000 files in one directory.  Medians; no test.

  bench_images.py [-n SAMPLES] [--mb SIZE]
"""
import argparse
import gzip
import io
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))
from box import BUILD, STORE  # noqa: E402
from registries import Registry  # noqa: E402

MSB = str(BUILD / "bin/msb")


def tar_of(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def content(mb, seed):
    """Files as programs have them: they compress to about half."""
    rnd = random.Random(seed)
    words = [rnd.randbytes(rnd.randrange(4, 40)) for _ in range(4000)]
    for i in range(mb):
        yield f"layer{seed}/file{i}", b"".join(rnd.choice(words) for _ in range(50000))[:1 << 20]


def timed(cmd, **kwargs):
    start = time.perf_counter()
    subprocess.run(cmd, check=True, stdin=kwargs.pop("stdin", subprocess.DEVNULL), stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, **kwargs)
    return time.perf_counter() - start


def bench_pull(registry, tag, n, where):
    ours, theirs = [], []
    for i in range(n):
        home = tempfile.mkdtemp(dir=where)
        ours.append(timed([MSB, "pull", "-q", f"{registry.host}/{tag}"], env=dict(os.environ, MICROSANDBOX_HOME=home)))
        theirs.append(timed(["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{registry.host}/{tag}",
                             f"oci:{home}/skopeo:x"]))
        shutil.rmtree(home)
    a, b = statistics.median(ours), statistics.median(theirs)
    print(f"pull {tag:<22} {a:7.2f} s   skopeo copy {b:7.2f} s   ratio {a / b:.2f} (target: at most 2)")


def bench_import(what, data, n, where, unit):
    took = []
    path = pathlib.Path(where) / "in.tar"
    path.write_bytes(data)
    for _ in range(n):
        home = tempfile.mkdtemp(dir=where)
        took.append(timed([MSB, "image", "import", "-q", "--name", "x", "--tar", str(path)],
                          env=dict(os.environ, MICROSANDBOX_HOME=home)))
        shutil.rmtree(home)
    print(f"{what:<27} {unit(statistics.median(took))}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-n", type=int, default=5)
    p.add_argument("--mb", type=int, default=256)
    a = p.parse_args()
    where = tempfile.mkdtemp(prefix="msb-bench-")
    registry = Registry(where + "/registry")
    try:
        subprocess.run(["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{STORE}:microsandbox/python:latest",
                        f"docker://{registry.host}/python:1"], check=True)
        layers = [tar_of(content(a.mb // 4, seed)) for seed in range(4)]
        registry.put_image("four", "gzip", layers, pack=lambda t: gzip.compress(t, 6))
        registry.put_image("four", "plain", layers, pack=lambda t: t, kind="tar")
        for tag in ("python:1", "four:gzip", "four:plain"):
            bench_pull(registry, tag, a.n, where)
        plain = tar_of(f for seed in range(4) for f in content(a.mb // 4, seed))
        mb = len(plain) / 1e6
        for name, data in (("tar", plain), ("tar.gz", gzip.compress(plain, 6))):
            bench_import(f"{name} of {mb:.0f} MB to an image", data, a.n, where,
                         lambda s: f"{s:7.2f} s   {mb / s:.0f} MB/s (target: at least 200)")
        many = tar_of((f"d/{i:06}", b"x") for i in range(100000))
        bench_import("100,000 files, one directory", many, a.n, where, lambda s: f"{s:7.2f} s   (target: at most 5)")
    finally:
        registry.stop()
        shutil.rmtree(where)


if __name__ == "__main__":
    main()
