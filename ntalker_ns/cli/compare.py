"""`ntalker compare` and `ntalker tally`: people choose between videos without knowing who made them."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from ntalker_ns.errors import NTalkerError


@dataclass
class Compare:
    """Make a page that asks people which of several videos of the same audio is best, as in the paper's Table 2.

    The page holds the videos, shows them in random order under letters, and saves the answers as a file to send back.
    """

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """Two or more mp4s of the same audio; each is called after its file."""
    output: Path = Path("comparison.html")
    """The page to write."""
    original: Path | None = None
    """The video before the edit, shown as such: without it nobody can judge identity."""
    instruction: str | None = None
    """What was asked for, shown above the videos."""

    def main(self) -> None:
        """Writes the page."""
        from ntalker_ns.evaluation.comparison import comparison_page
        from ntalker_ns.evaluation.written_report import write_text

        for path in (*self.videos, self.original):
            if path is not None and not path.is_file():
                raise NTalkerError(f"There is no video at '{path}'.")
        names = [path.stem for path in self.videos]
        if len(set(names)) < len(names):
            names = ["-".join([*path.parts[:-1], path.stem]) for path in self.videos]
        if len(set(names)) < len(names):
            raise NTalkerError("The same video is given twice.")
        page = comparison_page(dict(zip(names, self.videos, strict=True)), self.original, self.instruction)
        write_text(self.output, page)
        print(f"{self.output}: {len(names)} videos, {len(page) / 2**20:.1f} MiB. Count the answers with ntalker tally.")


@dataclass
class TallyAnswers:
    """Count the answers that people saved from a page of ntalker compare."""

    answers: tyro.conf.Positional[tuple[Path, ...]]
    """The files they sent back."""

    def main(self) -> None:
        """Prints the shares as in the paper's Table 2."""
        from rich.console import Console
        from rich.table import Table

        from ntalker_ns.evaluation.comparison import QUESTIONS, tally

        counted = tally(self.answers)
        table = Table(title=f"Answers of {counted.people}")
        table.add_column("")
        for title, _ in QUESTIONS.values():
            table.add_column(title, justify="right")
        for name, votes in counted.votes.items():
            cells = [f"{counted.share(name, key):.2f}% ({votes[key]})" for key in QUESTIONS]
            table.add_row(name, *cells)
        Console().print(table)
        if counted.repeated:
            print(f"{counted.repeated} files were saved again by the same viewer: the last one counts.")
