"""One thread for every test and every process a test starts: tiny models gain nothing from more, and with
other work on the machine threads that wait for each other are many times slower."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
