# SPDX-License-Identifier: Apache-2.0
"""Tests that need a /dev/kvm that works: make check-kvm runs them in the lab (docs/lab.md)."""
import pathlib
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "e2e")]
from box import *  # noqa: E402,F401,F403
