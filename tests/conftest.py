"""What holds for every test."""

import os
import signal

from hypothesis import HealthCheck, settings

# The machine is shared: how long an example takes says nothing, and a fixed seed makes a failing run repeatable.
settings.register_profile("conductor", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
# `make test-long`: other examples at each run, and more of them.
settings.register_profile("long", deadline=None, max_examples=2000, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("CONDUCTOR_HYPOTHESIS", "conductor"))

# A shell makes what it starts in the background ignore Ctrl-C, and so would every program the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
