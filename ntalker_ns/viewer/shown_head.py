"""The head as the viewer renders it: speaking what the panel plays, and with its look; nothing else may see either."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.rendering.display import RUN_DISPLAY, DisplayOptions
from ntalker_ns.viewer.playback import Playback


@dataclass(frozen=True, eq=False)
class Scene:
    """What drives the shown head."""

    sequence: DrivingSequence
    """Speech, eyes and head motion."""
    moves: bool
    """Whether the camera is the sequence's, so that the head moves; otherwise it is the user's."""


class ShownHead:
    """A model that is driven by a scene of its own while the viewer renders it, in training too."""

    def __init__(self, model: Any, train_lock: Any = None) -> None:
        """
        Args:
            model: a `TalkerModel`.
            train_lock: held by whoever trains or renders it; None: nobody does.
        """
        self._model = model
        self._train_lock = nullcontext() if train_lock is None else train_lock
        self._lock = threading.RLock()
        self._scene: Scene | None = None
        self._driven: dict[str, Any] | None = None
        self.display: DisplayOptions = RUN_DISPLAY
        """Background and refinement weight."""
        self.playback: Playback | None = None
        """Tells the frame of the scene that is shown; None: that of the camera's time."""

    def __getattr__(self, name: str) -> Any:
        """Everything else is the model's."""
        return getattr(self._model, name)

    @property
    def scene(self) -> Scene | None:
        """What it performs."""
        return self._scene

    @property
    def model(self) -> Any:
        """The `TalkerModel` that it shows."""
        return self._model

    def show(self, model: Any) -> None:
        """Shows another head in the same scene.

        Args:
            model: a `TalkerModel` of the same person.
        """
        with self._lock:
            self._model, self._driven = model, None

    def perform(self, scene: Scene) -> None:
        """Shows another scene."""
        with self._lock:
            self._scene, self._driven = scene, None

    @contextmanager
    def _performing(self) -> Iterator[None]:
        """The model is driven by the scene inside the block, and afterwards by what drove it before."""
        with self._lock:
            own = self._model.driven()
            try:
                if self._driven is not None:
                    self._model.drive_again(self._driven)
                elif self._scene is not None:
                    self._model.set_driving(self._scene.sequence)
                    self._driven = self._model.driven()
                yield
            finally:
                self._model.drive_again(own)

    def get_outputs_for_camera(self, camera: Cameras, obb_box: Any = None) -> dict[str, Tensor]:
        """See `TalkerModel.get_outputs_for_camera`."""
        # nerfstudio interrupts renders by raising from a trace function, at any line: not while the head is driven by
        # something else. Without tracing a render is also faster.
        sys.settrace(None)
        with self._performing():
            return self._model.get_outputs_for_camera(self._placed(camera), obb_box=obb_box, display=self.display)

    def _placed(self, camera: Cameras) -> Cameras:
        """The camera at the place and time that the panel shows."""
        if self._scene is None or self.playback is None:
            return camera
        track = self._scene.sequence.track
        frame = min(self.playback.frame(), len(track) - 1)
        camera.times = torch.full_like(camera.fx, float(track.times[frame]), dtype=torch.float32)
        if self._scene.moves:
            pose = torch.from_numpy(track.camera_to_worlds[frame]).to(camera.camera_to_worlds)
            camera.camera_to_worlds = pose.expand_as(camera.camera_to_worlds)
        return camera

    def video_frame(self, camera: Cameras, display: DisplayOptions) -> UInt8[np.ndarray, "height width 3"]:
        """See `TalkerModel.video_frame`; the viewer and a training go on between two frames.

        Args:
            camera: one camera with a time.
            display: background and refinement weight.
        """
        with self._train_lock:
            model = self._model
            training = model.training
            model.eval()
            try:
                with self._performing():
                    return model.video_frame(camera, display)
            finally:
                model.train(training)
