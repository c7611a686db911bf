"""What holds for every test."""

import os

from hypothesis import HealthCheck, settings

# The machine is shared: how long an example takes says nothing, and a fixed seed makes a failing run repeatable.
settings.register_profile("conductor", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
# `make test-long`: other examples at each run, and more of them.
settings.register_profile("long", deadline=None, max_examples=2000, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("CONDUCTOR_HYPOTHESIS", "conductor"))
