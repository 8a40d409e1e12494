"""Finds the metrics' weights: a file, a folder or the hub; missing ones raise `Unavailable`, which is reported."""

from functools import lru_cache
from pathlib import Path
from typing import Any

_TIMEOUT = 5.0
"""Seconds that a server has to answer: the clients' own retries take half a minute."""


class Unavailable(Exception):
    """A metric that cannot be taken here. The message is the reason and what would help, as one sentence."""


def weight_file(place: str | None, what: str, option: str) -> Path:
    """A file of weights on this machine, fetched from the hub if it is not here.

    Args:
        place: a path, or OWNER/REPOSITORY/FILE on the Hugging Face hub; None where the user named nothing.
        what: what the weights are, for the sentence.
        option: the option that names them, for the sentence.

    Raises:
        Unavailable: nothing was named, or what was named is neither a file nor to be had from the hub.
    """
    if place is None:
        raise Unavailable(f"{option} names no weights ({what}): give a path or OWNER/REPOSITORY/FILE on the hub")
    path = Path(place).expanduser()
    if path.is_file():
        return path
    parts = place.split("/")
    if len(parts) < 3 or path.is_absolute():
        raise Unavailable(f"{option}: there is no file at '{place}' ({what})")
    return _from_hub("/".join(parts[:2]), "/".join(parts[2:]), option)


def _from_hub(repository: str, file: str, option: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, file, local_files_only=True))
    except HFValidationError as error:
        raise Unavailable(f"{option}: there is no file at '{repository}/{file}', nor can the hub have it") from error
    except LocalEntryNotFoundError:
        pass
    if not answers(hub_endpoint()):
        raise Unavailable(f"{option}: '{repository}/{file}' is not on this machine and the hub does not answer")
    try:
        return Path(hf_hub_download(repository, file))
    except Exception as error:  # The hub's client raises many kinds: no such repository, no access, no room.
        raise Unavailable(f"{option}: '{repository}/{file}' cannot be fetched from the hub ({error})") from error


def transformers_model(kind: Any, place: str, option: str) -> Any:
    """A transformers object, from a folder, the hub's cache, or the hub where it answers.

    Args:
        kind: a class with `from_pretrained`.
        place: a folder or a hub id.
        option: the option that names it, for the sentence.

    Raises:
        Unavailable: it is in none of these.
    """
    try:
        return kind.from_pretrained(place, local_files_only=True)
    except (OSError, ValueError) as error:
        if Path(place).expanduser().is_dir():
            raise Unavailable(f"{option}: the folder '{place}' holds no {kind.__name__} ({error})") from error
    if not answers(hub_endpoint()):
        raise Unavailable(f"{option}: '{place}' is not on this machine and the hub does not answer")
    try:
        return kind.from_pretrained(place)
    except (OSError, ValueError) as error:
        raise Unavailable(f"{option}: '{place}' cannot be fetched from the hub ({error})") from error


def require_torchvision_weights(weights: Any, what: str) -> None:
    """Sees to it that torchvision finds pretrained weights: in its cache, or on a server that answers.

    Args:
        weights: a member of one of torchvision's weight enumerations.
        what: what they are for, for the sentence.

    Raises:
        Unavailable: neither is so.
    """
    import torch

    name = weights.url.rsplit("/", 1)[-1]
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    if not (cache / name).is_file() and not answers(weights.url):
        raise Unavailable(f"the weights of {what} ({name}) are not in {cache} and their server does not answer")


def hub_endpoint() -> str:
    """The address of the Hugging Face hub, or of the mirror that the environment names."""
    from huggingface_hub import constants

    return constants.ENDPOINT


@lru_cache
def answers(address: str) -> bool:
    """Whether a server answers within a few seconds; asked once per address."""
    import urllib.request

    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=_TIMEOUT):
            return True
    except (OSError, ValueError):
        return False
