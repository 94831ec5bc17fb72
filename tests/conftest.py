"""Settings of the whole suite."""

import pytest
from hypothesis import settings

# No test judges a duration: the machines are shared.
settings.register_profile("house", deadline=None)
settings.load_profile("house")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rerecord",
        action="store_true",
        help="record tests/transcripts anew instead of comparing with them; review the diff",
    )
