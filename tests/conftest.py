"""What holds for every test."""

from hypothesis import HealthCheck, settings

# The machine is shared: how long an example takes says nothing, and a fixed seed makes a failing run repeatable.
settings.register_profile("conductor", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("conductor")
