"""Trainer of an edit: progressive dataset updates, and training on what they gave (paper, Progressive Dataset Update).

given the base's radiance field, N frames, an instruction, and K pairs of guidance and steps that rise (Eq. 3)
for each pair:
    render the N frames from the field as it is now
    edit each of them by the instruction, with this guidance and these steps
    train on the edited frames
train on their lips
"""

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from nerfstudio.utils.decorators import check_main_thread
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from ntalker_ns.console import progress_bar, track
from ntalker_ns.driving.new_audio import sequence_for_audio
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.edit_config import EditTrainerConfig
from ntalker_ns.edit_pipeline import EditPipeline
from ntalker_ns.editing.editor import Editor
from ntalker_ns.editing.frames import EditFrames, edit_cameras, evenly_spaced, lip_masks
from ntalker_ns.editing.plan import Edit, EditRegion
from ntalker_ns.editing.store import EditStore, Kind, mask_to_picture
from ntalker_ns.errors import NTalkerError
from ntalker_ns.run_folder import DRIVING_FOLDER, absolute, read_checkpoint, remove_empty_folders
from ntalker_ns.talker_dataparser import TalkerDataParserConfig
from ntalker_ns.talker_trainer import TalkerTrainer
from ntalker_ns.training import distributed

STORE_FOLDER = "edit"
"""Where a run folder keeps edited frames and contact sheets."""
SHEET_ROWS = 4
"""Frames on a contact sheet."""
Pixels = UInt8[np.ndarray, "h w 3"]


class EditTrainer(TalkerTrainer):
    """Edits frames between training steps, outside of the lock that training holds, and trains on them."""

    config: EditTrainerConfig
    pipeline: EditPipeline  # type: ignore[assignment]

    def _load_checkpoint(self) -> None:
        """Starts from the base's weights, or goes on where this edit was broken off.

        Raises:
            NTalkerError: a checkpoint does not fit, or something that the edit needs is missing.
        """
        self.plan = self.config.plan()
        self.total_steps = self.config.max_num_iterations
        self.editor: Editor = self.config.editor.setup()
        self.store = EditStore(absolute(self.base_dir) / STORE_FOLDER)
        self.stop_training = False
        self.pipeline.load_features()
        if self.config.checkpoint_to_resume() is None:
            assert self.config.base is not None
            self.pipeline.load_base(read_checkpoint(self.config.base)["pipeline"])
        else:
            super()._load_checkpoint()
        driving = self._driving()
        self.pipeline.drive(driving)
        self.indices = evenly_spaced(self.config.edit.num_frames, len(driving))
        self.cameras = edit_cameras(driving, self.indices, self._dataparser().image_size)
        self._take_over_frames()

    def _driving(self) -> DrivingSequence:
        """What drives the head while it is edited: its clip, or new audio."""
        own = DrivingSequence.load(absolute(self.base_dir) / DRIVING_FOLDER)
        return own if self.config.audio is None else sequence_for_audio(own, self.config.audio)

    def _dataparser(self) -> TalkerDataParserConfig:
        return self.config.pipeline.datamanager.dataparser

    def _take_over_frames(self) -> None:
        """Brings the frames of the run that is resumed, as far as its checkpoint knows of them."""
        resumed = self.config.checkpoint_to_resume()
        if distributed.rank() == 0:
            if resumed is not None:
                broken_off = EditStore(resumed.parent.parent / STORE_FOLDER)
                broken_off.describe(self._description())
                self.store.take_over(broken_off)
                self.store.drop_after(self._start_step)
            self.store.describe(self._description())
        distributed.wait_for_all()

    def _description(self) -> dict[str, Any]:
        """What pictures that are kept depend on."""
        config = self.config.edit
        return {
            "instruction": self.config.instruction,
            "base": str(self.config.base),
            "audio": str(self.config.audio),
            "region": self.config.edit_region,
            "editor": self.config.editor.describe(self.config.instruction),
            **{f"editor.{name}": value for name, value in self.config.editor.result_settings().items()},
            "frames": self.indices.tolist(),
            **{name: getattr(config, name) for name in ("strategy", "updates", "epochs", "interval", "noise", "seed")},
            "guidance": self.plan.bounds[0],
            "steps": self.plan.bounds[1],
        }

    def _init_viewer_state(self) -> None:
        """Stock calls this once before the first step: the viewer stands, and no lock is held."""
        super()._init_viewer_state()
        try:
            self._between_steps(self._start_step)
        except NTalkerError:
            if not self._can_go_on():
                shutil.rmtree(self.base_dir, ignore_errors=True)
                remove_empty_folders(self.base_dir)
            raise

    def _can_go_on(self) -> bool:
        """Whether this run is worth resuming; before the first frame is edited there is nothing to go on with."""
        return self._start_step > 0 or bool(self.store.newest_of_all("edited", self.total_steps))

    def _update_viewer_state(self, step: int) -> None:
        """Stock calls this after each step, when it has given the lock back."""
        super()._update_viewer_state(step)
        self._between_steps(step + 1)

    def _between_steps(self, step: int) -> None:
        """What is due before a training step: the sheet of the round that ended, and the edit of the next one."""
        if step in self.plan.rounds[1:] and step < self.total_steps:
            self._write_sheet(f"update-{self.plan.rounds.index(step)}", step)
        edit = self.plan.edit_before(step) if step < self.total_steps else None
        whole = edit is not None and len(edit.frames) == len(self.indices)
        if step == 0 or whole:
            # Where an edit is broken off, the field that it rendered from is there again.
            self.save_checkpoint(step - 1)
        frames = self.pipeline.frames
        if frames is None:
            frames = self._all_frames(step)
            self.pipeline.supervise(frames, self.plan)
        if edit is None:
            return
        try:
            self._make_edit(edit, step)
        except NTalkerError as error:
            if not self._can_go_on():
                raise
            raise NTalkerError(
                f"{str(error).rstrip('.')}, and go on with --load-dir {self.checkpoint_dir}, where all that is done is "
                "kept."
            ) from error
        for place in edit.frames:
            frames.edited[place] = self._edited_at(place, step)

    def _all_frames(self, step: int) -> EditFrames:
        """The N frames as they are known before a step; the unedited ones are rendered where this is the first."""
        unedited = self._unedited()
        frames = EditFrames(
            driving=self.pipeline.driving(),
            indices=self.indices,
            cameras=self.cameras,
            plate=self.pipeline.plate(self.cameras[0:1]),
            unedited=unedited,
            opacities=np.stack([self._kept("head"), self._kept("torso")], axis=-1),
            lips=self._lips(unedited),
            edited=unedited.copy(),
        )
        for place in range(len(frames)):
            frames.edited[place] = self._edited_at(place, step, unedited[place])
        return frames

    def _unedited(self) -> UInt8[np.ndarray, "n h w 3"]:
        """What the base shows at the N frames, and where its head and torso are: rendered once and kept."""
        places = range(len(self.indices))
        missing = [place for place in distributed.share(places) if not self.store.has("torso", self._frame(place), 0)]
        for place in _tracked(missing, "Unedited frames"):
            outputs = self._render(place)
            self.store.put("base", self._frame(place), 0, to_bytes(outputs["field_rgb"]))
            for layer in ("head", "torso"):
                self.store.put(layer, self._frame(place), 0, to_bytes(outputs[f"{layer}_opacity"])[..., 0])
        distributed.wait_for_all()
        return self._kept("base")

    def _kept(self, kind: Kind) -> UInt8[np.ndarray, "n h w *channels"]:
        """What is kept of the N frames as they were before the edit."""
        return np.stack([self.store.get(kind, int(frame), 0) for frame in self.indices])

    def _lips(self, unedited: UInt8[np.ndarray, "n h w 3"]) -> Bool[np.ndarray, "n h w"]:
        """Where the base's lips are, found once and kept."""
        if distributed.rank() == 0 and not all(self.store.has("lips", int(frame), 0) for frame in self.indices):
            masks, found = lip_masks(unedited, self.pipeline.driving(), self.indices)
            CONSOLE.print(f"Lips found in {found} of the {len(masks)} unedited frames.")
            for frame, mask in zip(self.indices, masks, strict=True):
                self.store.put("lips", int(frame), 0, mask_to_picture(mask))
        distributed.wait_for_all()
        return self._kept("lips") > 0

    def _make_edit(self, edit: Edit, step: int) -> None:
        """One dataset update, or this process's share of it: render, edit, keep. What is kept already is not redone."""
        waiting = [
            place for place in distributed.share(edit.frames) if not self.store.has("edited", self._frame(place), step)
        ]
        with self._memory_shared():
            if len(edit.frames) == 1:
                list(self._in_batches(waiting, edit, step))
            else:
                self._edit_all(waiting, edit, step)
        distributed.wait_for_all()

    def _edit_all(self, waiting: list[int], edit: Edit, step: int) -> None:
        """Edits many frames under a bar, then lets go of the editor's weights."""
        count, strength = len(edit.frames), edit.strength
        updates = len(self.plan.rounds) - 1
        CONSOLE.print(
            f"Update {edit.number} of {updates}: {count} frames, guidance {strength.guidance:g}, "
            f"{strength.steps} of {strength.full_steps} steps."
        )
        begin = time.monotonic()
        with progress_bar() as bar:
            task = bar.add_task(f"Update {edit.number}: rendering", total=len(waiting))
            for place in waiting:
                self._before(place, step)
                bar.update(task, advance=1)
            bar.reset(task, total=len(waiting), description=f"Update {edit.number}: editing")
            for done in self._in_batches(waiting, edit, step):
                rate = done / max(time.monotonic() - begin, 1e-6)
                bar.update(task, completed=done, description=f"Update {edit.number}: {rate:.2f} frames/s")
        self.editor.unload()
        if torch.cuda.is_available():
            CONSOLE.print(f"Peak GPU memory: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB.")

    def _in_batches(self, waiting: list[int], edit: Edit, step: int) -> Iterator[int]:
        """Edits frames in batches that fit into memory; yields how many are done."""
        batch, done = max(self.config.editor.batch_size, 1), 0
        while done < len(waiting):
            part = waiting[done : done + batch]
            if not self._fits(part, edit, step):
                batch = self._make_room(len(part))
                continue
            done += len(part)
            yield done

    def _fits(self, places: Sequence[int], edit: Edit, step: int) -> bool:
        """Edits a batch, unless there is too little memory for it."""
        try:
            self._edit_batch(places, edit, step)
        except torch.OutOfMemoryError:
            return False
        return True

    def _make_room(self, batch: int) -> int:
        """Moves the field off the card, or where that is done, halves the batch.

        Returns:
            How many frames to edit at a time from now on.

        Raises:
            NTalkerError: not even one frame fits.
        """
        torch.cuda.empty_cache()
        if self.pipeline.device.type == "cuda":
            CONSOLE.print("The editor needs memory: the field leaves the card while it works.")
            with self.train_lock:
                self.pipeline.model.to("cpu")
            torch.cuda.empty_cache()
            return batch
        if batch > 1:
            CONSOLE.print(f"The editor needs memory: {batch // 2} frames at a time.")
            return batch // 2
        raise NTalkerError(
            "The editor does not fit into the card's memory: begin anew with a smaller --editor.size, or give it "
            "--editor.save-memory True or another card (--editor.device cuda:1)."
        )

    @contextmanager
    def _memory_shared(self) -> Iterator[None]:
        """Brings the field back to where it was, whatever happens to it for the editor's sake."""
        device = self.pipeline.device
        try:
            yield
        finally:
            if self.pipeline.device != device:
                self.editor.unload()
                with self.train_lock:
                    self.pipeline.model.to(device)

    def _edit_batch(self, places: Sequence[int], edit: Edit, step: int) -> None:
        """Edits some frames and keeps them; outside of the edited region they stay the base's."""
        self._wait_while_paused()
        frames = self.pipeline.frames
        assert frames is not None
        conditions = frames.unedited[list(places)] if edit.original_condition else None
        edited = self.editor.edit(
            self._to_tensor(np.stack([self._before(place, step) for place in places])),
            self.config.instruction,
            edit.strength,
            self.plan.seeds(tuple(int(self.indices[place]) for place in places)),
            None if conditions is None else self._to_tensor(conditions),
        )
        if not bool(torch.isfinite(edited).all()):
            raise NTalkerError(
                "The editor gave pictures with values that are no numbers, as half precision does where it overflows: "
                "take --editor.precision bf16 or fp32."
            )
        for place, picture in zip(places, edited, strict=True):
            opacities = torch.from_numpy(frames.opacities[place]).float() / 255.0
            head, torso = opacities.split(1, dim=-1)
            layers = {"head_opacity": head, "torso_opacity": torso}
            region = region_of(layers, self.config.edit_region).numpy()
            kept = frames.unedited[place] / np.float32(255)
            learned = region * picture.permute(1, 2, 0).float().cpu().numpy() + (1.0 - region) * kept
            self.store.put("edited", self._frame(place), step, to_bytes(torch.from_numpy(learned)))

    def _before(self, place: int, step: int) -> Pixels:
        """A frame from the field as it is now, as the editor gets it."""
        frame = self._frame(place)
        if step == 0:
            return self.store.get("base", frame, 0)
        if not self.store.has("before", frame, step):
            self._wait_while_paused()
            self.store.put("before", frame, step, to_bytes(self._render(place)["field_rgb"]))
        return self.store.get("before", frame, step)

    def _edited_at(self, place: int, step: int, otherwise: Pixels | None = None) -> Pixels:
        """The newest edited picture of a frame before a step."""
        frame = self._frame(place)
        made = self.store.newest("edited", frame, step)
        if made is None and otherwise is not None:
            return otherwise
        return self.store.get("edited", frame, step if made is None else made)

    def _frame(self, place: int) -> int:
        """Where one of the N frames is in the driving sequence."""
        return int(self.indices[place])

    def _render(self, place: int) -> dict[str, Tensor]:
        """A frame from the field as it is now; only for this the lock is held, so that the viewer draws meanwhile."""
        with self.train_lock:
            return self.pipeline.render(self.cameras[place : place + 1])

    def _to_tensor(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> Float[Tensor, "n 3 h w"]:
        device = self.device if isinstance(self.device, str) else "cpu"
        return torch.from_numpy(pictures).permute(0, 3, 1, 2).to(device).float() / 255.0

    def _wait_while_paused(self) -> None:
        """Honours the viewer's pause button, and `shutdown`."""
        while self.training_state == "paused" and not self.stop_training:
            time.sleep(0.05)
        if self.stop_training:
            raise KeyboardInterrupt

    def train_iteration(self, step: int) -> Any:
        """A training step; the first one, and the first on lips, tells how large the terms of the loss are.

        Args:
            step: training step.
        """
        loss, losses, metrics = super().train_iteration(step)
        if step in (0, self.plan.rounds[-1]):
            terms = ", ".join(f"{name} {float(value):.4g}" for name, value in losses.items())
            CONSOLE.print(f"Weighted losses at step {step}: {terms}.")
            limit = 10.0 * float(losses["reconstruction"])
            large = [name for name in losses if name != "discriminator" and float(losses[name]) > limit]
            if large:
                CONSOLE.print(f"[yellow]More than ten times the reconstruction: {', '.join(large)}.[/yellow]")
        return loss, losses, metrics

    @check_main_thread
    def save_checkpoint(self, step: int) -> None:
        """Writes a checkpoint; frames that only older checkpoints ask for go with those.

        Args:
            step: training step that was done last; -1 before the first.
        """
        super().save_checkpoint(step)
        if self.config.save_only_latest_checkpoint:
            self.store.prune(step + 1)

    def _after_train(self) -> None:
        """Draws the last sheet."""
        self._write_sheet("final", self.total_steps)
        super()._after_train()

    @check_main_thread
    def _write_sheet(self, name: str, step: int) -> None:
        """Before, edited, and the field after training on it, side by side, for people to look at.

        Args:
            name: of the file.
            step: training step that comes next.
        """
        from ntalker_ns.media.contact_sheet import grid, write_picture

        frames = self.pipeline.frames
        if frames is None:
            return
        rows, labels = [], []
        for place in evenly_spaced(min(SHEET_ROWS, len(frames)), len(frames)):
            frame = self._frame(int(place))
            made = self.store.newest("before", frame, step - 1)
            before = frames.unedited[place] if made is None else self.store.get("before", frame, made)
            rows.append([before, frames.edited[place], to_bytes(self._render(int(place))["rgb"])])
            labels.append(str(frame))
        sheet = grid(rows, labels, ["before", "edited", "after training"], height=min(256, frames.size[1] * 2))
        path = self.store.folder / "sheets" / f"{name}.png"
        write_picture(path, sheet)
        CONSOLE.out(f"Contact sheet: {path}")


def region_of(outputs: dict[str, Tensor], region: EditRegion) -> Float[Tensor, "h w 1"]:
    """How much of each pixel belongs to what is edited, 0 to 1.

    Args:
        outputs: head_opacity and torso_opacity (h, w, 1), as of `EditModel.get_outputs_for_camera`.
        region: what is edited.
    """
    head = outputs["head_opacity"]
    if region == "head":
        return head
    if region == "portrait":
        return head + (1.0 - head) * outputs["torso_opacity"]
    return torch.ones_like(head)


def to_bytes(picture: Float[Tensor, "h w c"]) -> UInt8[np.ndarray, "h w c"]:
    """A picture in [0, 1] as 8-bit values."""
    return (picture.float().clamp(0.0, 1.0) * 255.0).round().byte().cpu().numpy()


def _tracked(places: list[int], description: str) -> Iterable[int]:
    """Under a bar, if there is anything to do."""
    return track(places, description) if places else places
