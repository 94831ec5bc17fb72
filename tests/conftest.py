"""Settings of the whole suite."""

import gc

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


def pytest_collection_finish() -> None:
    """What the imports left stays, and histories live as long as their test: collect seldom.

    Looking through both for what has died took a tenth of the suite's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
