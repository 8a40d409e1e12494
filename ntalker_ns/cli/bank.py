"""`ntalker bank`: a bank of one's own, whose data sets refine how lips are predicted from sound."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ntalker_ns.errors import NTalkerError


@dataclass
class AddToBank:
    """Add a data set. It refines the audio-to-lips prior of heads trained later; no data leave this machine."""

    data: tyro.conf.Positional[Path]
    """A data set with whisper features (ntalker process)."""
    folder: Path | None = None
    """Folder of the bank. By default the user's own, which every training reads; for another one train with
    --pipeline.model.bank."""

    def main(self) -> None:
        """Reads the data set, writes its entry."""
        from ntalker_ns.speech.local_bank import bank_folder, entry_of, write_entry
        from ntalker_ns.speech.prior import load_prior
        from ntalker_ns.talker_dataparser import TalkerDataParserConfig, read_training_clip

        _, sequence = read_training_clip(TalkerDataParserConfig(data=self.data))
        if sequence.feature_info.extractor != "whisper":
            raise NTalkerError(
                f"{self.data} has {sequence.feature_info.extractor} features: a bank takes data sets that were "
                "processed with --features whisper."
            )
        track = sequence.track
        entry = entry_of(track.features, track.lip_shapes, sequence.rig.lip_basis, load_prior())
        path = bank_folder(self.folder) / f"{self.data.resolve().name}.npz"
        write_entry(entry, path)
        print(f"{path}: {len(track.features)} frames. The next head that is trained learns from them, too.")


@dataclass
class ListBank:
    """List the bank's entries, and what is wrong with those that cannot be used."""

    folder: Path | None = None
    """Folder of the bank. By default the user's own."""

    def main(self) -> None:
        """Reads and prints."""
        from ntalker_ns.speech.local_bank import bank_folder, entry_paths, read_entry
        from ntalker_ns.speech.prior import load_prior

        folder = bank_folder(self.folder)
        paths = entry_paths(folder)
        print(f"{folder}: {len(paths)} {'entry' if len(paths) == 1 else 'entries'}.")
        for path in paths:
            try:
                print(f"  {path.stem}: {len(read_entry(path, load_prior()).frames)} frames")
            except NTalkerError as error:
                print(f"  {path.stem}: not used. {error}")


@dataclass
class RemoveFromBank:
    """Remove an entry."""

    name: tyro.conf.Positional[str]
    """Its name, as `ntalker bank list` shows it."""
    folder: Path | None = None
    """Folder of the bank. By default the user's own."""

    def main(self) -> None:
        """Removes it."""
        from ntalker_ns.speech.local_bank import bank_folder, entry_paths

        folder = bank_folder(self.folder)
        found = [path for path in entry_paths(folder) if path.stem == self.name]
        if not found:
            raise NTalkerError(f"There is no entry {self.name} in {folder}: ntalker bank list shows them.")
        found[0].unlink()
        print(f"Removed {found[0]}.")


@dataclass
class Bank:
    """A bank of your own: data sets that refine how lips are predicted from sound. Nothing leaves this machine."""

    action: tyro.conf.OmitArgPrefixes[
        Annotated[AddToBank, tyro.conf.subcommand("add", prefix_name=False)]
        | Annotated[ListBank, tyro.conf.subcommand("list", prefix_name=False)]
        | Annotated[RemoveFromBank, tyro.conf.subcommand("remove", prefix_name=False)]
    ]

    def main(self) -> None:
        """Runs the chosen sub-command."""
        self.action.main()
