# SPDX-License-Identifier: Apache-2.0
"""The fixtures are box.py's, which tests/lab has too."""
import signal

from box import *  # noqa: F401,F403

# A shell starts what it puts into the background with SIGINT ignored, and our programs would
# inherit that. What they do then has tests of its own; the others want the usual.
signal.signal(signal.SIGINT, signal.default_int_handler)
