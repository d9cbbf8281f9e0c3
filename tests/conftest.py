"""What every test and every process a test starts needs, whatever shell or job runner started pytest."""

import os
import signal

# Tiny models gain nothing from more threads, and beside other work threads that wait for each other are many
# times slower.
os.environ["OMP_NUM_THREADS"] = "1"

# A job started in the background ignores Ctrl-C and passes that on to its children; tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)
