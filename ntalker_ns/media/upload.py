"""Decodes sound that somebody sent, in a process of its own: a file made to harm ends that process and no other.

Run as a module, it reads the file that it is given and writes 16-bit samples at 16 kHz to standard output.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.sound import SAMPLE_RATE, from_pcm16, read_sound, to_pcm16

LONGEST = 600
"""Seconds of sound that may wait to be spoken."""
LARGEST = 64 << 20
"""Bytes of an upload."""
SECONDS = 30
"""That decoding may take."""
MEMORY = 4 << 30
"""Bytes of address space of the process."""


async def decoded(upload: bytes) -> Float32[np.ndarray, " samples"]:
    """The sound of a file of any format, mono at 16 kHz in [-1, 1].

    Args:
        upload: the file.

    Raises:
        NTalkerError: it cannot be decoded, or is longer than `LONGEST` seconds.
    """
    with tempfile.NamedTemporaryFile(prefix="ntalker-", suffix=".upload") as file:
        file.write(upload)
        file.flush()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__, file.name, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            samples, _ = await asyncio.wait_for(process.communicate(), SECONDS)
        except TimeoutError as error:
            raise NTalkerError(f"The file could not be decoded within {SECONDS} s.") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if process.returncode != 0 or not samples:
        raise NTalkerError("The file holds no sound that can be decoded.")
    if len(samples) > 2 * LONGEST * SAMPLE_RATE:
        raise NTalkerError(f"The sound is longer than {LONGEST // 60} minutes.")
    return from_pcm16(samples)


def _main(path: Path) -> None:
    if sys.platform.startswith("linux"):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    # One sample more than is allowed says that there are too many.
    waveform = read_sound(path).waveform(SAMPLE_RATE)[: LONGEST * SAMPLE_RATE + 1]
    sys.stdout.buffer.write(to_pcm16(waveform))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
