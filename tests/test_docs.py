"""README.md and docs: the links, files, commands and options that they name exist."""

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import tyro
from support.paths import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
TEXTS = {page.name: page.read_text("utf8") for page in PAGES}
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
# Named without saying more.
PLAIN = [
    ["ntalker"],
    ["ns-eval"],
    ["ns-render"],
    ["ns-render", "spiral"],
    ["ns-render", "camera-path"],
    ["ns-viewer"],
]
METHODS = [f"ntalker-{kind}" for kind in ("base", "base-small", "edit", "edit-small", "splat", "splat-small")]


def _anchors(text: str) -> set[str]:
    """GitHub's anchors of the headings."""
    headings = re.findall(r"(?m)^#+ (.*)$", text)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)]+)\)", TEXTS[page.name]):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        assert not anchor or anchor in _anchors(linked.read_text("utf8")), target


@each_page
def test_files_exist(page: Path):
    names = re.findall(r"`((?:ntalker_ns|scripts|tests|configs|docs|media)/[\w./*-]+)`", TEXTS[page.name])
    assert [name for name in names if not list(REPOSITORY.glob(name.rstrip("/")))] == []


@cache
def _parsers() -> dict[str, Any]:
    """What parses a documented command, by how it begins."""
    from nerfstudio.scripts.eval import ComputePSNR
    from nerfstudio.scripts.render import DatasetRender
    from nerfstudio.scripts.viewer.run_viewer import RunViewer

    from ntalker_ns.cli.main import Commands
    from scripts.benchmarks.collar import Compare, Paint
    from scripts.benchmarks.fringe import Fringe
    from scripts.benchmarks.heads import Heads as HeadTimes
    from scripts.benchmarks.held_out_speech import Heads, Regression, Stream
    from scripts.benchmarks.languages import Languages
    from scripts.benchmarks.live import LiveBenchmark
    from scripts.benchmarks.outline import Outline
    from scripts.benchmarks.painted import Painted
    from scripts.benchmarks.portrait import PortraitSheet
    from scripts.benchmarks.run import Benchmark
    from scripts.benchmarks.speakers import Speakers
    from scripts.benchmarks.speech_curve import SpeechCurve
    from scripts.benchmarks.worn import Worn
    from scripts.screenshots import Screenshots

    ours = {f"ntalker {command.__metadata__[0].name}": command.__origin__ for command in get_args(Commands)}
    stock = {"ns-eval": ComputePSNR, "ns-render dataset": DatasetRender, "ns-viewer": RunViewer}
    measured = {
        "run": Benchmark,
        "portrait": PortraitSheet,
        "painted": Painted,
        "outline": Outline,
        "speakers": Speakers,
        "speech_curve": SpeechCurve,
        "collar paint": Paint,
        "collar compare": Compare,
        "fringe": Fringe,
        "heads": HeadTimes,
        "held_out_speech heads": Heads,
        "held_out_speech regression": Regression,
        "held_out_speech stream": Stream,
        "languages": Languages,
        "live": LiveBenchmark,
        "worn": Worn,
    }
    pictures = {"python -m scripts.screenshots": Screenshots}
    benchmarks = {f"python -m scripts.benchmarks.{name}": command for name, command in measured.items()}
    return {**ours, **stock, **pictures, **benchmarks}


@cache
def _options(command: str) -> set[str]:
    with pytest.warns(DeprecationWarning):
        return set(re.findall(r"--[\w.-]+", tyro.extras.get_parser(_parsers()[command]).format_help()))


def _is_field(method: str, option: str) -> bool:
    """Whether a method's configuration has the field that an option of ns-train names."""
    from ntalker_ns.editing.editors import EDITORS
    from ntalker_ns.runs import method_config

    value: Any = method_config(method)
    names = option.removeprefix("--").replace("-", "_").split(".")
    if names[0] == "editor":
        return any(names[1] in kind.__dataclass_fields__ for kind in EDITORS.values())
    for name in names:
        if not hasattr(value, name):
            return False
        value = getattr(value, name)
    return True


def _commands(text: str) -> list[list[str]]:
    """The words of every command, in blocks and within sentences; options on their own are commands without a name."""
    blocks = re.findall(r"(?s)```bash\n(.*?)```", text)
    lines = [line for block in blocks for line in block.splitlines()]
    spans = re.findall(r"`([^`]+)`", re.sub(r"(?s)```.*?```", "", text))
    programs = r"(\w+=\w+ )*(ntalker|ns-\w+|python|bash|--|editor:)\b"
    found = [shlex.split(one, comments=True) for one in lines + spans if re.match(programs, one)]
    return [[word for word in words if not re.fullmatch(r"[A-Z_]+=\w+", word)] for words in found]


def _is_known(words: list[str]) -> bool:
    if words in PLAIN:
        return True
    line, options = " ".join(words), {word.split("=")[0] for word in words if word.startswith("--")}
    if words[0] == "bash":
        return (REPOSITORY / words[1]).is_file()
    if words[0] == "ns-train" and len(words) > 1:
        return all(_is_field(words[1], option) for option in options)
    if words[0].startswith(("--", "editor:")):
        return all(
            any(option in _options(name) for name in _parsers()) or any(_is_field(method, option) for method in METHODS)
            for option in options
        )
    name = next((name for name in _parsers() if f"{line} ".startswith(f"{name} ")), None)
    return options <= _options(name) if name else words[0] in METHODS


@each_page
def test_commands_and_options_exist(page: Path):
    assert [" ".join(words) for words in _commands(TEXTS[page.name]) if not _is_known(words)] == []
