"""What every test and every process a test starts needs, whatever shell or job runner started pytest."""

import os
import signal

from hypothesis import settings

# Tiny models gain nothing from more threads, and beside other work threads that wait for each other are many
# times slower.
os.environ["OMP_NUM_THREADS"] = "1"

# A job started in the background ignores Ctrl-C and passes that on to its children; tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# On CI the same examples every time, so that a red run means a change.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
