"""Pictures of one size in a temporary file: minutes of them do not fit into memory."""

import tempfile
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from jaxtyping import UInt8

from ntalker_ns.errors import NTalkerError

Picture = UInt8[np.ndarray, "h w 3"]


class FrameFile(Sequence[Picture]):
    """A sequence of RGB pictures on disk. The file has no name, so nothing is left behind however the program ends."""

    def __init__(self, height: int, width: int) -> None:
        """
        Args:
            height: of every picture, px.
            width: of every picture, px.
        """
        self.shape = (height, width, 3)
        # It lives as long as this object does.
        self._file = tempfile.TemporaryFile(prefix="ntalker-frames-")  # noqa: SIM115
        self._count = 0

    def append(self, picture: Picture) -> None:
        """Adds a picture.

        Raises:
            NTalkerError: it has another size, or there is no room for it.
        """
        if picture.shape != self.shape:
            raise NTalkerError(f"Picture {self._count} has shape {picture.shape}, the others {self.shape}.")
        try:
            self._file.seek(self._count * self._bytes)
            self._file.write(np.ascontiguousarray(picture, np.uint8).data)
            self._file.flush()
        except OSError as error:
            folder = tempfile.gettempdir()
            raise NTalkerError(
                f"{folder} has no room for the pictures ({error.strerror}): set TMPDIR to a folder that has."
            ) from error
        self._count += 1

    @property
    def _bytes(self) -> int:
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Picture: ...

    @overload
    def __getitem__(self, index: slice) -> list[Picture]: ...

    def __getitem__(self, index: int | slice) -> Picture | list[Picture]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        place = range(self._count)[index]
        self._file.seek(place * self._bytes)
        return np.frombuffer(self._file.read(self._bytes), np.uint8).reshape(self.shape)

    def __iter__(self) -> Iterator[Picture]:
        return (self[i] for i in range(self._count))
