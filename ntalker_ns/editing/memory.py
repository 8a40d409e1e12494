"""GPU memory shared by head and editor: a batch that does not fit is retried with more memory or fewer frames."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from nerfstudio.utils.rich_utils import CONSOLE

from ntalker_ns.editing.editor import Editor, SurfaceEditor
from ntalker_ns.errors import NTalkerError


@runtime_checkable
class MovableHead(Protocol):
    """A head that can leave the GPU for a while."""

    @property
    def head_device(self) -> torch.device:
        """Where the head is now."""
        ...

    def move_head(self, device: torch.device) -> None:
        """Moves the head to a device."""
        ...


@contextmanager
def head_restored(head: MovableHead, editor: Editor | SurfaceEditor) -> Iterator[None]:
    """Moves the head back to its device after the block, if it had to leave it for the editor."""
    device = head.head_device
    try:
        yield
    finally:
        if head.head_device != device:
            editor.unload()
            head.move_head(device)


def in_batches(
    frames: Sequence[int], batch_size: int, edit: Callable[[Sequence[int]], None], head: MovableHead
) -> Iterator[int]:
    """Edits frames in batches that fit into memory.

    A batch that does not fit is tried again after the head has left the GPU, and then with half as many frames.

    Args:
        frames: to edit.
        batch_size: frames per batch at first.
        edit: edits one batch.
        head: see `head_restored`.

    Yields:
        The number of frames that are done.

    Raises:
        NTalkerError: a single frame does not fit.
    """
    size, done = max(batch_size, 1), 0
    while done < len(frames):
        batch = frames[done : done + size]
        try:
            edit(batch)
        except torch.OutOfMemoryError:
            fits = False
        else:
            fits = True
        # Outside of the handler, which holds on to the tensors of the failed batch.
        if not fits:
            size = _make_room(head, len(batch))
            continue
        done += len(batch)
        yield done


def _make_room(head: MovableHead, size: int) -> int:
    """Moves the head off the GPU, or else halves the batch; returns the next batch size."""
    torch.cuda.empty_cache()
    if head.head_device.type == "cuda":
        CONSOLE.print("The editor needs memory: the head leaves the GPU while it works.")
        head.move_head(torch.device("cpu"))
        torch.cuda.empty_cache()
        return size
    if size > 1:
        CONSOLE.print(f"The editor needs memory: {size // 2} frames at a time.")
        return size // 2
    raise NTalkerError(
        "The editor does not fit into the GPU's memory: start again with a smaller --editor.size, or give it "
        "--editor.save-memory True or another GPU (--editor.device cuda:1)."
    )
