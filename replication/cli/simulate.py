"""Running a scenario in virtual time: one seed like ``compare``, or many that draw their own."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from replication.cli.compare import (
    MARKDOWN,
    again,
    changed_sides,
    each_variant,
    end_early_if_interrupted,
    loaded,
    print_findings,
    run_options,
)
from replication.cli.edge import ExitCode, fail
from replication.cli.seeds import Told, as_json, in_words
from replication.protocol import Family

if TYPE_CHECKING:
    from replication.plan import Scenario
    from replication.simulation import SeedResult

SEED_MAX = 2**63 - 1
OF_SEEDS_ONLY = ("jobs", "keep_going", "shrink")


class Seeds(click.ParamType[range]):
    """Seeds from A to B, both included, or one."""

    name = "seeds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the range; see click."""
        if isinstance(value, range):
            return value
        first, dash, last = str(value).partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or (dash and not last):
            self.fail(f"{value!r} is no range of seeds, expected A-B such as 1-1000, or one", param)
        low, high = int(first), int(last or first)
        if low > high:
            self.fail(f"{value} ends before it begins, expected {high}-{low}", param)
        if high > SEED_MAX:
            self.fail(f"{high} is too large, expected at most {SEED_MAX}", param)
        return range(low, high + 1)


@click.command("simulate")
@run_options
@click.option(
    "--side", type=click.Choice([each.value for each in Family]), help="One of the two only."
)
@click.option("--seeds", type=Seeds(), metavar="A-B", help="Draw a scenario for each of them.")
@click.option("--jobs", type=click.IntRange(1), help="With --seeds: processes; else all cores.")
@click.option("--keep-going", is_flag=True, help="With --seeds: do not stop at the first failure.")
@click.option("--shrink", is_flag=True, help="With --seeds: make what fails small, as a scenario.")
def simulate_command(side: str | None, seeds: range | None, **options: Any) -> None:
    """Run SCENARIO in virtual time, from one seed; the same report, in seconds, marked simulated.

    The same cores, clients and faults, on a modelled network, disk and clock. Equal seeds give
    equal histories, byte for byte.

    With --seeds every seed draws a load, a cluster and faults of its own, within the limits of
    [swarm] in SCENARIO, or the defaults of those. While it runs, whatever must always hold is
    checked at every step; then all is healed, and it must serve, converge, and have kept its
    promises. What fails can be repeated by its seed.

    \b
    $ replication simulate leader-crash --seed 7
    $ replication simulate flaky-network --seeds 1-1000 --keep-going
    $ replication simulate flaky-network --seeds 42 --side leader --shrink
    """
    families = tuple(Family) if side is None else (Family(side),)
    if seeds is not None:
        if options["seed"] is not None:
            raise click.UsageError("--seed and --seeds exclude each other")
        _many(seeds, families, options)
    misplaced = [f"--{name.replace('_', '-')}" for name in OF_SEEDS_ONLY if options[name]]
    if misplaced:
        raise click.UsageError(f"{', '.join(misplaced)} needs --seeds A-B")
    from replication import api
    from replication.simulation import refuse

    variants = [(chosen, *loaded(chosen)) for chosen in each_variant(options)]
    for _, scenario, _ in variants:
        refuse(scenario.plan, scenario.plan.sides(families))  # before any of them begins
    found: list[Any] = []
    done: list[Scenario] = []
    for chosen, scenario, seed in variants:
        sides = changed_sides(scenario, done, families)
        done.append(scenario)
        if not sides:
            continue
        command = again("simulate", families, chosen, ("--seed", str(seed)))
        found.append(api.simulate(scenario, seed, options["runs"], command, sides))
        end_early_if_interrupted(found, options["output"])
    print_findings(found, options["output"])


def _many(seeds: range, families: Sequence[Family], options: dict[str, Any]) -> NoReturn:
    """Try all seeds, say what came of it, and end."""
    from replication.simulation import swarm

    scenario, _ = loaded(options)
    families = scenario.plan.sides(families)
    with _progress(len(seeds) * len(families), options["quiet"]) as tell:
        report = swarm(
            scenario.plan.scenario,
            scenario.name,
            seeds,
            families=families,
            jobs=options["jobs"],
            stop_at_first=not options["keep_going"],
            on_result=tell,
        )
    failures = [Told(each, _replay(each, options)) for each in report.failed]
    interrupted = report.interrupted
    if options["shrink"] and not interrupted:
        interrupted = _shrink_each_kind(failures, scenario, options)
    elif len(report.results) == 1 and failures:
        failures[0].story = _story(failures[0].result, scenario)
    match options["output"]:
        case "json":
            sys.stdout.write(as_json(report, seeds, interrupted, failures))
        case output:
            sys.stdout.write(in_words(report, seeds, failures, markdown=output == MARKDOWN))
    if interrupted:
        fail("interrupted: this is what was found so far", ExitCode.INTERRUPTED)
    raise SystemExit(int(ExitCode.VIOLATED if failures else ExitCode.MET))


def _replay(result: "SeedResult", options: dict[str, Any]) -> str:
    return again("simulate", (result.family,), options, ("--seeds", str(result.seed)))


def _story(result: "SeedResult", scenario: "Scenario") -> tuple[str, ...]:
    from replication.simulation import simulate_seed, story

    simulated = simulate_seed(scenario.plan.scenario, scenario.name, result.seed, result.family)
    return tuple(story(simulated.history, result.failure))


def _shrink_each_kind(
    failures: "Sequence[Told]", scenario: "Scenario", options: dict[str, Any]
) -> bool:
    """Make the first failure of each kind small, and write it down; return if interrupted."""
    from replication.simulation import shrink_seed

    seen: set[tuple[Family, str]] = set()
    for told in failures:
        result = told.result
        assert result.failure is not None, "these have failed"
        kind = (result.family, result.failure.check)
        if kind in seen:
            continue
        seen.add(kind)
        with _shrinking(options["quiet"]) as tell:
            shrunk = shrink_seed(
                scenario.plan.scenario, scenario.name, result.seed, result.family, progress=tell
            )
        assert shrunk is not None, "a seed that failed fails again"
        folder: Path = options["runs"] / "shrunk"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{scenario.name}-{result.seed}-{result.family.value}.toml"
        path.write_text(shrunk.toml(), encoding="utf-8")
        told.file, told.story = str(path), shrunk.story
        told.size = (shrunk.faults, shrunk.operations, shrunk.simulations)
        if shrunk.interrupted:
            return True
    return False


@contextmanager
def _progress(total: int, quiet: bool) -> "Iterator[Callable[[SeedResult], None]]":
    """Yield what to call with each result: a live line on a terminal, silence elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    done = failed = 0

    def count(result: "SeedResult") -> None:
        nonlocal done, failed
        done += 1
        failed += result.failure is not None
        if live is not None:
            live.update(f"{done:,} of {total:,} simulations, {failed:,} failed")

    if quiet or not console.is_terminal:
        live = None
        yield count
    else:
        with console.status("starting") as live:
            yield count


@contextmanager
def _shrinking(quiet: bool) -> Iterator[Callable[[int, int, int], None]]:
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda *_: None
        return
    with console.status("shrinking") as live:
        yield lambda tried, faults, operations: live.update(
            f"shrinking: {faults} faults and {operations} operations after {tried:,} simulations"
        )
