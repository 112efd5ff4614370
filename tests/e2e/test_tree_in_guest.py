# SPDX-License-Identifier: Apache-2.0
"""An imported directory, compared entry by entry with its source from inside a sandbox."""
import json
import os
import pathlib
import shutil
import subprocess

from conftest import STORE
from test_image import ROOT_ONLY, make_tree
from tree_manifest import manifest

SCRIPT = pathlib.Path(__file__).with_name("tree_manifest.py")


def python_layer():
    """The file with the one layer of the python image."""
    blob = lambda digest: STORE / "blobs" / digest.replace(":", "/")
    index = json.loads((STORE / "index.json").read_text())
    name = "org.opencontainers.image.ref.name"
    entry = next(m for m in index["manifests"] if m["annotations"].get(name) == "microsandbox/python:latest")
    layers = json.loads(blob(entry["digest"]).read_text())["layers"]
    assert len(layers) == 1
    return blob(layers[0]["digest"])


@ROOT_ONLY
def test_every_entry_is_the_same_in_the_guest(box, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["tar", "-xpf", python_layer(), "--numeric-owner", "-C", root], check=True)
    (root / "tree").mkdir()
    make_tree(root / "tree")
    shutil.copy(SCRIPT, root / "tree_manifest.py")
    os.unlink(box.home / "images")  # a store of its own: nothing is added to the user's
    p = box.msb("image", "import", "-q", "--name", "tree", "--dir", str(root))
    assert p.returncode == 0, p.stderr
    p = box.msx("-q", "--memory", "1G", "--scope", "none", "tree", "-e", "/usr/bin/python3", "--",
                "/tree_manifest.py", "--no-root", "/tree", check=0)
    want = list(manifest(str(root / "tree"), [], False))
    got = p.stdout.decode().splitlines()
    assert len(want) > 700
    assert got == want
