"""`ntalker compare` and `ntalker tally`: a blind user study."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from ntalker_ns.errors import NTalkerError


@dataclass
class Compare:
    """Create the web page of a blind user study that compares videos of the same audio (the paper's Table 2).

    The page contains the videos, shows them in random order under letters, and saves the answers as a file to send
    back. The key file beside it maps letters to systems: for ntalker tally, not for participants.
    """

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """Two or more videos of the same audio, named after their files."""
    output: Path = Path("comparison.html")
    """The page to write. Its key goes beside it, as NAME.key.json."""
    original: Path | None = None
    """The video before the edit, shown as such; without it there is no question about identity."""
    instruction: str | None = None
    """The edit's instruction, shown above the videos; without it there is no question about following it."""

    def main(self) -> None:
        """Writes the page."""
        from ntalker_ns.evaluation.report.write import write_text
        from ntalker_ns.experiments.user_study import comparison_page
        from ntalker_ns.media.output_paths import check_file

        shown = (*self.videos, self.original)
        for path in shown:
            if path is not None and not path.is_file():
                raise NTalkerError(f"There is no video at '{path}'.")
        key = self.output.with_suffix(".key.json")
        check_file(self.output, "--output", shown)
        check_file(key, "--output", shown)
        names = [path.stem for path in self.videos]
        if len(set(names)) < len(names):
            names = ["-".join([*path.parts[:-1], path.stem]) for path in self.videos]
        if len(set(names)) < len(names):
            raise NTalkerError("The same video is given twice.")
        page = comparison_page(dict(zip(names, self.videos, strict=True)), self.original, self.instruction)
        write_text(self.output, page.html)
        write_text(key, page.key)
        print(
            f"{self.output}: {len(names)} videos, {len(page.html) / 2**20:.1f} MiB. Keep {key} to yourself and count "
            f"the answers with ntalker tally ANSWERS --key {key}."
        )


@dataclass
class TallyAnswers:
    """Count the answers that people saved from a page of ntalker compare."""

    answers: tyro.conf.Positional[tuple[Path, ...]]
    """Answer files saved by the page."""
    key: tuple[Path, ...] = (Path("comparison.key.json"),)
    """The key files that ntalker compare wrote beside the pages."""

    def main(self) -> None:
        """Prints the percentages as in the paper's Table 2, with 95% intervals."""
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        from ntalker_ns.experiments.user_study import QUESTIONS, tally

        counted = tally(self.answers, self.key)
        asked = [question for question in QUESTIONS if counted.answers(question)]
        table = Table(title=f"{counted.viewings} viewings: percentage (votes), 95% interval")
        table.add_column("")
        for question in asked:
            table.add_column(QUESTIONS[question][0], justify="right")
        for name, votes in counted.votes.items():
            cells = []
            for question in asked:
                low, high = counted.interval(name, question)
                cells.append(f"{counted.share(name, question):.2f}% ({votes[question]}), {low:.0f} to {high:.0f}%")
            table.add_row(escape(name), *cells)
        Console().print(table)
        if counted.repeated:
            print(f"{counted.repeated} files were saved again in the same viewing: the last one counts.")
