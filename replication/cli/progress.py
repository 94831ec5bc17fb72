"""The line that tells what a run is doing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from replication.run.progress import Progress, Stage

NS_PER_S = 1_000_000_000


@contextmanager
def progress_line(console: Console, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Yield what to call with each progress: a live line; without a terminal a line per stage."""
    if quiet:
        yield lambda _: None
    elif console.is_terminal:
        with console.status(Text("starting")) as status:
            yield lambda progress: status.update(Text(in_words(progress)))
    else:
        yield _Stages(console).tell


class _Stages:
    """Prints a line whenever a side enters another stage, and whenever a fault begins."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ("", Stage.DONE, "")

    def tell(self, progress: Progress) -> None:
        here = (progress.family.value, progress.stage, progress.fault)
        if here != self._last and progress.stage is not Stage.DONE:
            self._console.print(Text(in_words(progress)), soft_wrap=True)
        self._last = here


def in_words(progress: Progress) -> str:
    """Return the progress as one line of text."""
    words = f"{progress.family.value}: {progress.stage.value}"
    if progress.stage is Stage.LOADING:
        total = progress.total_ns / NS_PER_S
        words += f" {progress.elapsed_ns / NS_PER_S:.1f} of {total:g} s"
    if progress.ok or progress.fail or progress.unknown:
        words += f", {progress.ok:,} ok, {progress.fail:,} failed, {progress.unknown:,} unknown"
    return f"{words}; {progress.fault}" if progress.fault else words
