"""Settings of the whole suite."""

from hypothesis import settings

# No test judges a duration: the machines are shared.
settings.register_profile("house", deadline=None)
settings.load_profile("house")
