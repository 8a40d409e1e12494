"""The dataset update: an edit as the paper's loop (section Progressive Dataset Update, Eq. 3).

Given a trained head, an instruction, N frames, and K pairs of text guidance s and diffusion steps t that rise:

    render the N frames from the unedited head
    K times:
        edit the frames by the instruction, with guidance s_i and t_i steps
        train the head on the edited frames
        render the N frames from the head as it is now
    train on lip patches of the edited frames
    train a small copy of the refinement network, for frames in real time

Two other strategies are the same loop. One-time: K = 1, at the upper bounds. Iterative (Instruct-NeRF2NeRF): one frame
every few steps, with the unedited frame as the editor's image condition.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from ntalker_ns.console import progress_bar, track
from ntalker_ns.data.outline_view import OutlineView
from ntalker_ns.driving.cameras import sequence_cameras
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.editing.editor import Editor, SurfaceEditor
from ntalker_ns.editing.frames import COVERED, EditFrames, Supervision, lip_masks
from ntalker_ns.editing.memory import MovableHead, head_restored, in_batches
from ntalker_ns.editing.plan import EditOutline, EditPlan, EditRegion, Update
from ntalker_ns.editing.progress import Work
from ntalker_ns.editing.store import EditStore, Kind, mask_to_picture
from ntalker_ns.editing.views import FrameView, behind_head, view_of
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.contact_sheet import grid, write_picture
from ntalker_ns.media.frame_indices import evenly_spaced
from ntalker_ns.media.pixels import from_uint8, to_uint8
from ntalker_ns.refinement.small import FAITHFUL
from ntalker_ns.training import distributed

SHEET_ROWS = 4
"""Frames on a contact sheet."""
DISTILLED = 12
"""Frames that the refinement network is copied on."""


@runtime_checkable
class HeadInTraining(MovableHead, Protocol):
    """The head and its trainer, as the loop uses them."""

    def render(self, camera: Cameras) -> dict[str, Tensor]:
        """Renders a picture from the head as it is now; see `EditModel.get_outputs_for_camera`."""
        ...

    def surface(self, camera: Cameras, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Which points of the head a rendered picture shows; see `TalkerModel.surface`."""
        ...

    def beside(self, camera: Cameras, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Which points it would show if the head reached there; see `TalkerModel.beside`."""
        ...

    def extend_outline(self, views: Sequence[OutlineView]) -> None:
        """Extends the head to another outline; see `Head.extend_outline`."""
        ...

    def lip_shapes(self, frames: Int64[np.ndarray, " n"]) -> Float[np.ndarray, "n lip_dim"]:
        """The lip shapes that it shows at frames of its driving sequence."""
        ...

    def distil_refinement(self, cameras: Cameras) -> float:
        """Trains a small copy of the refinement network; see `EditModel.distil_refinement`."""
        ...

    def supervise(self, supervision: Supervision) -> None:
        """Trains on these patches from now on."""
        ...

    def save_checkpoint(self, step: int) -> None:
        """Saves the head after a training step, -1 before the first."""
        ...

    def wait_while_paused(self) -> None:
        """Returns when training is not paused; raises KeyboardInterrupt if it is to stop."""
        ...

    def note(self, work: Work, count: int, phase: str, done: int, total: int) -> None:
        """Takes note of work that is done, see `ProgressWriter.note`."""
        ...


@dataclass
class DatasetUpdate:
    """The loop and what it works on."""

    head: HeadInTraining
    editor: Editor | SurfaceEditor
    batch_size: int
    """Frames per batch of the editor."""
    device: torch.device
    """Where the editor gets its frames."""
    instruction: str
    region: EditRegion
    outline: EditOutline
    plan: EditPlan
    driving: DrivingSequence
    indices: Int64[np.ndarray, " n"]
    """The N frames in the driving sequence."""
    cameras: Cameras
    """Of the N frames."""
    plate: Float32[np.ndarray, "h w 3"]
    """The background without the person, as these cameras see it."""
    store: EditStore
    """All pictures pass through it: what exists is not made again when an edit is resumed, and processes that share the
    frames exchange them."""

    def run(self, start: int, end: int) -> Iterator[int]:
        """The loop. nerfstudio owns the training steps, so this is a generator: it yields the step to train up to.

        Args:
            start: first training step; above 0 where an interrupted edit is resumed.
            end: training step after the last.
        """
        # 1. Save the head, so that an edit interrupted from here on can be resumed from the same weights.
        self.head.save_checkpoint(start - 1)

        # 2. Render the N frames from the unedited head, once. They are also the lip-edge loss's reference.
        frames = self.unedited_frames()
        if isinstance(self.editor, SurfaceEditor):
            self.editor.prepare(self._look, self.driving, max(frames.size), self.store.folder)

        # 3. Supervise: from now on, training steps take patches of `frames.edited`.
        for i, picture in enumerate(self.newest_edited(frames, start)):
            frames.set_edited(i, picture)
        self.head.supervise(Supervision(frames, self.plan))

        for update in self.plan.updates(start, end):
            # 4. Train on the edited frames, up to this update.
            yield update.step
            if update.is_whole and update.step > start:
                self.write_sheet(f"update-{update.number - 1}", update.step, frames)
                self.head.save_checkpoint(update.step - 1)

            with head_restored(self.head, self.editor):
                # 5. Render the frames again, from the head as it is now.
                waiting = self.render_frames(update)
                # 6. Edit them by the instruction, with this update's guidance and steps.
                self.edit_frames(update, waiting, frames)
            distributed.wait_for_all()
            for i in update.frames:
                frames.set_edited(i, self.store.get("edited", self.index(i), update.step))
            if self.outline == "free":
                self.extend_outline(frames)

        # 7. Train on the frames of the last update, then on lip patches with the lip-edge loss.
        yield min(self.plan.lip_start, end)
        if start < self.plan.lip_start < end:
            self.write_sheet(f"update-{len(self.plan.rounds) - 1}", self.plan.lip_start, frames)
        yield end
        # 8. Train the refinement network's small copy, which refines from now on.
        self.distil_refinement()
        self.write_sheet("final", end, frames)

    def unedited_frames(self) -> EditFrames:
        """The N frames before the edit, rendered and masked once and then read from the store."""
        missing = [
            i for i in distributed.share(range(len(self.indices))) if not self.store.has("behind", self.index(i), 0)
        ]
        for count, i in enumerate(track(missing, "Unedited frames") if missing else (), start=1):
            outputs = self._render(i)
            self.store.put("base", self.index(i), 0, to_uint8(outputs["field_rgb"]))
            for layer in ("head", "torso"):
                self.store.put(layer, self.index(i), 0, to_uint8(outputs[f"{layer}_opacity"])[..., 0])
            self.store.put("behind", self.index(i), 0, to_uint8(behind_head(outputs)))
            self.head.note("render", 1, "Rendering the head before the edit", count, len(missing))
        distributed.wait_for_all()
        unedited = self._stored("base")
        return EditFrames(
            driving=self.driving,
            indices=self.indices,
            cameras=self.cameras,
            plate=self.plate,
            unedited=unedited,
            opacities=np.stack([self._stored("head"), self._stored("torso")], axis=-1),
            lips=self._lips((unedited.shape[2], unedited.shape[1])),
            edited=unedited.copy(),
            behind=self._stored("behind") if self.outline == "free" else None,
        )

    def extend_outline(self, frames: EditFrames) -> None:
        """Makes room for what the edited frames have added to the head."""
        views, held = [], frames.held[..., 0] > 255 * COVERED
        camera = self.driving.camera.resized(frames.size)
        for i in range(len(frames)):
            shown = self._render(i)["head_opacity"][..., 0].cpu().numpy() > COVERED
            pose = self.driving.track.camera_to_worlds[self.indices[i]]
            picture = from_uint8(frames.edited[i])
            views.append(OutlineView(self.index(i), picture, held[i], held[i] & ~shown, pose, camera.intrinsics))
        self.head.extend_outline(views)

    def distil_refinement(self) -> None:
        """Trains the small copy of the refinement network on some of the frames, and says how good it is."""
        chosen = evenly_spaced(DISTILLED, len(self.indices))
        fidelity = self.head.distil_refinement(self.cameras[torch.from_numpy(chosen)])
        if fidelity >= FAITHFUL:
            CONSOLE.print(f"Refinement in real time: a small copy of the network, {fidelity:.1f} dB beside it.")
        else:
            CONSOLE.print(
                f"[yellow]No small copy of the refinement network: at {fidelity:.1f} dB beside it, it would not be "
                "faithful. On a CPU, refined frames are not in real time; --refinement-weight 0 renders fast."
                "[/yellow]"
            )

    def newest_edited(self, frames: EditFrames, step: int) -> UInt8[np.ndarray, "n h w 3"]:
        """The training targets at a step: the newest edited frames, and the unedited ones where there are none."""
        made = [self.store.newest("edited", self.index(i), step) for i in range(len(frames))]
        pictures = [
            frames.unedited[i] if at is None else self.store.get("edited", self.index(i), at)
            for i, at in enumerate(made)
        ]
        return np.stack(pictures)

    def render_frames(self, update: Update) -> list[int]:
        """Renders the frames of an update that are not edited yet.

        Returns:
            Those frames, as far as this process edits them.
        """
        waiting = [
            i for i in distributed.share(update.frames) if not self.store.has("edited", self.index(i), update.step)
        ]
        if update.is_whole:
            strength = update.strength
            CONSOLE.print(
                f"Update {update.number} of {len(self.plan.rounds) - 1}: {len(update.frames)} frames, guidance "
                f"{strength.guidance:g}, {strength.steps} of {strength.full_steps} steps."
            )
        # The renders of the unedited head are those before the first step.
        missing = [i for i in waiting if update.step > 0 and not self.store.has("before", self.index(i), update.step)]
        shown = update.is_whole and missing
        rendering = f"Update {update.number}: rendering"
        for count, i in enumerate(track(missing, rendering) if shown else missing, start=1):
            self.head.wait_while_paused()
            self.store.put("before", self.index(i), update.step, to_uint8(self._render(i)["field_rgb"]))
            self.head.note("render", 1, rendering, count, len(missing))
        return waiting

    def edit_frames(self, update: Update, waiting: Sequence[int], frames: EditFrames) -> None:
        """Edits rendered frames and stores the results.

        Raises:
            NTalkerError: the editor does not fit into memory, or its pictures are not finite.
        """
        done = in_batches(waiting, self.batch_size, lambda batch: self._edit_batch(update, batch, frames), self.head)
        if not update.is_whole:
            list(done)
            return
        begin, before = time.monotonic(), 0
        with progress_bar() as bar:
            task = bar.add_task(f"Update {update.number}: editing", total=len(waiting))
            for count in done:
                self.head.note("edit", count - before, f"Update {update.number}: editing", count, len(waiting))
                before = count
                rate = count / max(time.monotonic() - begin, 1e-6)
                bar.update(task, completed=count, description=f"Update {update.number}: {rate:.2f} frames/s")
        self.editor.unload()
        if torch.cuda.is_available():
            CONSOLE.print(f"Peak GPU memory: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB.")

    def _edit_batch(self, update: Update, batch: Sequence[int], frames: EditFrames) -> None:
        """Edits some frames and stores them; outside of the edited region they keep their unedited colours."""
        self.head.wait_while_paused()
        kind: Kind = "before" if update.step > 0 else "base"
        rendered = np.stack([self.store.get(kind, self.index(i), update.step) for i in batch])
        if isinstance(self.editor, SurfaceEditor):
            views = [self._view(self.cameras[i : i + 1], frames.unedited[i]) for i in batch]
            edited = self.editor.edit_views(from_uint8(rendered), views)
        else:
            original = not update.is_whole or self.editor.edits_original(self.device)
            conditions = self._to_tensor(frames.unedited[list(batch)]) if original else None
            seeds = self.plan.seeds(tuple(map(self.index, batch)))
            made = self.editor.edit(self._to_tensor(rendered), self.instruction, update.strength, seeds, conditions)
            edited = made.permute(0, 2, 3, 1).float().cpu().numpy()
        if not np.isfinite(edited).all():
            raise NTalkerError(
                "The editor's pictures are not finite, as happens when half precision overflows: use "
                "--editor.precision bf16 or fp32."
            )
        for i, picture in zip(batch, edited, strict=True):
            picture = np.asarray(picture, np.float32)
            if self.outline == "keep":
                picture = frames.within_outline(i, picture, from_uint8(self.store.get("behind", self.index(i), 0)))
            region = frames.region(i, self.region, frames.head_in(i, picture))
            target = region * picture + (1.0 - region) * from_uint8(frames.unedited[i])
            self.store.put("edited", self.index(i), update.step, to_uint8(target))

    def write_sheet(self, name: str, step: int, frames: EditFrames) -> None:
        """Writes a contact sheet: input and result of the editor, and the head trained on them, side by side.

        Args:
            name: of the file.
            step: the next training step.
            frames: the N frames.
        """
        if distributed.rank() != 0:
            return
        rows, labels = [], []
        for i in evenly_spaced(SHEET_ROWS, len(frames)).tolist():
            made = self.store.newest("before", self.index(i), step - 1)
            before = frames.unedited[i] if made is None else self.store.get("before", self.index(i), made)
            rows.append([before, frames.edited[i], to_uint8(self._render(i)["rgb"])])
            labels.append(str(self.index(i)))
        sheet = grid(rows, labels, ["before", "edited", "after training"], height=min(256, frames.size[1] * 2))
        path = self.store.folder / "sheets" / f"{name}.png"
        write_picture(path, sheet)
        CONSOLE.out(f"Contact sheet: {path}")

    def index(self, i: int) -> int:
        """Index in the driving sequence of one of the N frames."""
        return int(self.indices[i])

    def _stored(self, kind: Kind) -> UInt8[np.ndarray, "n h w *channels"]:
        """The N unedited frames of a kind."""
        return np.stack([self.store.get(kind, int(index), 0) for index in self.indices])

    def _lips(self, size: tuple[int, int]) -> Bool[np.ndarray, "n h w"]:
        """Lip masks of the unedited frames, of that width and height, computed once."""
        if distributed.rank() == 0 and not all(self.store.has("lips", int(index), 0) for index in self.indices):
            masks = lip_masks(self.driving, self.indices, self.head.lip_shapes(self.indices), size)
            for index, mask in zip(self.indices, masks, strict=True):
                self.store.put("lips", int(index), 0, mask_to_picture(mask))
        distributed.wait_for_all()
        return self._stored("lips") > 0

    def _render(self, i: int) -> dict[str, Tensor]:
        return self.head.render(self.cameras[i : i + 1])

    def _look(self, frame: int, size: int) -> FrameView:
        """A frame of the driving sequence from the head as it is now; see `RenderView`."""
        return self._view(sequence_cameras(self.driving, np.array([frame]), size, enlarge=True), None)

    def _view(self, camera: Cameras, unedited: UInt8[np.ndarray, "h w 3"] | None) -> FrameView:
        """What a camera sees of the head as it is now; its opacities stay those of the unedited head.

        Args:
            camera: one, with a time.
            unedited: picture of the unedited head; None: the head is not edited yet.
        """
        outputs = self.head.render(camera)
        picture = to_uint8(outputs["field_rgb"]) if unedited is None else unedited
        surface = self.head.surface(camera, outputs)
        if self.outline == "free":
            surface |= self.head.beside(camera, outputs)
        return view_of(from_uint8(picture), outputs, surface)

    def _to_tensor(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> Float[Tensor, "n 3 h w"]:
        return from_uint8(torch.from_numpy(pictures).permute(0, 3, 1, 2).to(self.device))
