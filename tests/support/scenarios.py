"""Scenarios as text, and what is said of them."""

import tomllib
from functools import cache

from replication.errors import ConfigError
from replication.plan import find_backend, read_scenario

SOUND = """
title = "Sound"
question = "Is anything wrong with it?"
[run]
duration = "8s"
warmup = "1s"
[workload]
clients = 4
keys = { count = 20 }
arrival = { kind = "open", rate = "100/s" }
"""


def measure_problem(path: str) -> str | None:
    return None if path.startswith("known.") else f'"{path}" is no measure'


find = cache(find_backend)  # what is installed is looked up anew for every scenario otherwise


def problems(text: str) -> list[str]:
    """Return what is said of a scenario, without the name of the file."""
    lines: tuple[str, ...] = ()
    try:
        read_scenario(
            tomllib.loads(text),
            "x",
            "x.toml",
            find=find,
            known_checks=["durability", "linearizability"],
            measure_problem=measure_problem,
        )
    except ConfigError as error:
        lines = error.problems
    assert all(line.startswith("x.toml: ") for line in lines)
    return [line.removeprefix("x.toml: ") for line in lines]
