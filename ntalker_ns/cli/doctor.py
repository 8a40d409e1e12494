"""`ntalker doctor`: what this machine has, and what follows from it."""

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["ok", "optional", "missing"]
_STYLES = {"ok": "green", "optional": "yellow", "missing": "red"}
_CODECS = ("libx264", "aac")
_HUB_WEIGHTS = (
    ("wav2vec2", "RAD-NeRF's audio features, for `ntalker process --features wav2vec2`"),
    ("hubert", "for `ntalker process --features hubert`"),
)


@dataclass(frozen=True)
class Finding:
    """One row of the table.

    Attributes:
        subject: what was looked for.
        state: "missing" only where something that every user needs is not there.
        found: what was found, and what follows from it.
    """

    subject: str
    state: State
    found: str


@dataclass
class Doctor:
    """Report on this machine: device, fast encodings and networks, codecs, model weights, programs, disk space."""

    def main(self) -> None:
        """Prints the table; ends with an error where something that every command needs is missing."""
        from rich.console import Console
        from rich.table import Table

        from ntalker_ns.errors import NTalkerError

        findings = examine()
        table = Table(title="ntalker doctor")
        for column in ("what", "state", "found"):
            table.add_column(column, overflow="fold")
        for finding in findings:
            style = _STYLES[finding.state]
            table.add_row(finding.subject, f"[{style}]{finding.state}[/{style}]", finding.found)
        Console().print(table)
        missing = [finding.subject for finding in findings if finding.state == "missing"]
        if missing:
            raise NTalkerError(f"This installation lacks {', '.join(missing)}; run scripts/setup.sh again.")


def examine() -> list[Finding]:
    """Looks at everything. A check that fails becomes a finding, so that one broken part does not hide the others."""
    findings = []
    for name, check in CHECKS.items():
        try:
            findings += list(check())
        except Exception as error:  # whatever is broken here is what the user asked to be told
            findings.append(Finding(name, "missing", f"{type(error).__name__}: {error}"))
    return findings


def _python() -> Iterator[Finding]:
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("ntalker_ns", "nerfstudio", "numpy"))
    yield Finding("python", "ok", f"{platform.python_version()} with {packages}")


def _torch() -> Iterator[Finding]:
    import torch

    yield Finding("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} CPU threads")
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        memory = properties.total_memory / 2**30
        yield Finding("GPU", "ok", f"{properties.name}, {memory:.0f} GiB: ntalker-base at 512 px is practical")
        return
    built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
    yield Finding("GPU", "optional", f"none seen ({built}): use ntalker-base-small, 256 px, minutes on a CPU")


def _kernels() -> Iterator[Finding]:
    import torch

    from ntalker_ns.kernels.backend import automatic_backend, unavailable
    from ntalker_ns.kernels.ops import implementations

    device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = automatic_backend(device)
    if reason := unavailable(chosen, device):
        yield Finding("backend", "missing", f"{chosen} on {device}: {reason}")
        return
    yield Finding("backend", "ok", f"{chosen} on {device}; {_faster_backend(chosen, device)}")
    for operation, backends in implementations("auto", device).items():
        found = ", else ".join(backends) or "operation by operation"
        if operation == "run_mlp" and chosen == "triton" and not _has_shared_memory():
            found = "reference: this GPU has too little shared memory for Triton's kernel"
        yield Finding(f"  {operation}", "ok", found)


def _code_cache() -> Iterator[Finding]:
    from ntalker_ns.training.code_cache import provide_code_cache

    folder = provide_code_cache()
    if folder is None:
        yield Finding("compiled code", "ok", "kept in the user's cache or beside the kernels")
    else:
        yield Finding(
            "compiled code",
            "optional",
            f"kept in {folder}: the home cannot be written to, or NUMBA_CACHE_DIR is set. Kernels are compiled again, "
            "for a minute or two, when that is emptied",
        )


def _faster_backend(chosen: str, device: str) -> str:
    """Why nothing faster than this backend is used."""
    from ntalker_ns.kernels.backend import unavailable

    if device == "cpu":
        return "the fastest there is without a GPU"
    if chosen == "reference":
        return f"Triton's fused kernels would be many times faster, but {unavailable('triton', device)}"
    tcnn = unavailable("tcnn", device)
    if tcnn:
        return f"tiny-cuda-nn is the alternative, but {tcnn}"
    return "tiny-cuda-nn is there too and is not chosen: our levels take it one launch each (backend tcnn)"


def _has_shared_memory() -> bool:
    """Whether Triton's kernel of small networks fits this GPU."""
    import torch

    from ntalker_ns.kernels.triton import sizes

    return sizes.widest_on(torch.device("cuda")) > 0


def _mediapipe() -> Iterator[Finding]:
    from ntalker_ns.console import quiet_native_logs

    with quiet_native_logs():
        from mediapipe.python.solutions.face_mesh import FaceMesh

        FaceMesh(refine_landmarks=True).close()
    yield Finding("mediapipe", "ok", f"{importlib.metadata.version('mediapipe')}: faces are found, no download needed")


def _codecs() -> Iterator[Finding]:
    import av

    absent = [name for name in _CODECS if not _can_encode(name)]
    if absent:
        yield Finding("video and sound", "missing", f"PyAV {av.__version__} cannot write {' or '.join(absent)}")
    else:
        yield Finding("video and sound", "ok", f"PyAV {av.__version__} writes {' and '.join(_CODECS)}")


def _can_encode(name: str) -> bool:
    import av

    try:
        return av.Codec(name, "w").is_encoder
    except ValueError:
        return False


def _speech() -> Iterator[Finding]:
    from ntalker_ns.media.espeak import synthesize

    samples, sample_rate = synthesize("Yes.")
    yield Finding("speech synthesis", "ok", f"eSpeak NG at {sample_rate} Hz, said {len(samples) / sample_rate:.1f} s")


def _hub_weights() -> Iterator[Finding]:
    from ntalker_ns.audio.features import DEFAULT_MODELS

    for name, use in _HUB_WEIGHTS:
        model = DEFAULT_MODELS[name]
        folder = hub_folder(model)
        if folder.is_dir():
            yield Finding(name, "ok", f"{model} in {folder}")
        else:
            cache = folder.parent.parent
            yield Finding(name, "optional", f"{model} not in {cache}: {use}; mel features need no weights")


def hub_folder(model: str) -> Path:
    """Where the Hugging Face hub keeps the downloaded snapshots of a model."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    return cache / f"models--{model.replace('/', '--')}" / "snapshots"


def _programs() -> Iterator[Finding]:
    path = shutil.which("ffmpeg")
    if path:
        yield Finding("ffmpeg", "ok", f"{path}: ns-render can write videos")
    else:
        wanted = "not needed by ntalker render; ns-render requires it for camera paths, also for image output"
        yield Finding("ffmpeg", "optional", f"not found: {wanted}")


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    state: State = "ok" if free > 2.0 else "optional"
    yield Finding("disk", state, f"{free:.1f} GiB free in {Path.cwd()}; a 20 s clip and its run take about 0.5 GiB")


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "python": _python,
    "torch": _torch,
    "kernels": _kernels,
    "compiled code": _code_cache,
    "mediapipe": _mediapipe,
    "video and sound": _codecs,
    "speech synthesis": _speech,
    "weights": _hub_weights,
    "ffmpeg": _programs,
    "disk": _disk,
}
"""What is looked at, in the order of the table."""
