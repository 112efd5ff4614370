# SPDX-License-Identifier: Apache-2.0
"""The fixtures are box.py's, which tests/lab has too."""
from box import *  # noqa: F401,F403
