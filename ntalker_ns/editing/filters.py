"""Picture filters, chosen by keywords of the instruction.

An instruction that names a painter is applied by a style network (`ntalker_ns.editing.style_networks`). The editor is
deterministic and treats every frame the same, so that tests, the demo and machines without a GPU can run whole
edits.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from ntalker_ns.editing.editor import EditorConfig, check_instruction
from ntalker_ns.editing.plan import Strength
from ntalker_ns.editing.style_networks import PAINTERS, repaint
from ntalker_ns.errors import NTalkerError

Picture = Float32[np.ndarray, "h w 3"]
"""RGB in [0, 1]."""
Style = Callable[[Picture, float, int], Picture]
"""(picture, amount in [0, 1], seed) -> picture. At amount 0 nothing changes."""

REFERENCE_SIDE = 512
"""Side in px of the pictures for which the lengths below are given."""
MAX_RELIEF_GAIN = 3.0
"""Local differences of brightness are raised by at most this factor."""
WARP_FRACTION = 0.012
"""Standard deviation of the warp style's displacements at amount 1, as a fraction of the picture's width."""
WARP_CELLS = 12
"""Independent displacements of the warp style across the picture."""


@dataclass
class FilterEditorConfig(EditorConfig):
    """Offline picture filters, chosen by keywords of the instruction; painters by a small network."""

    _target: type = field(default_factory=lambda: FilterEditor)
    full_guidance: float = 6.0
    """Text guidance scale at which a style is applied in full, if all diffusion steps are run."""

    def check(self, instruction: str) -> None:
        """See `EditorConfig.check`.

        Raises:
            NTalkerError: the instruction names no style; the message lists them.
        """
        named_styles(instruction)

    def describe(self, instruction: str) -> str:
        """See `EditorConfig.describe`."""
        styles = named_styles(instruction)
        kind = "style network" if PAINTERS.keys() & set(styles) else "filter"
        return (
            f"Offline {kind} ({', '.join(styles)}), no diffusion model: at guidance s and t of t_u "
            f"steps it is applied by t / t_u * (s - 1) / {self.full_guidance - 1:g}, at most in full."
        )


class FilterEditor:
    """Applies the styles that an instruction names."""

    def __init__(self, config: FilterEditorConfig) -> None:
        """
        Args:
            config: relates guidance to the amount of a style.
        """
        self.config = config

    def edits_original(self, device: torch.device) -> bool:
        """See `Editor.edits_original`: a filter takes the head as it is now, as the paper's editor does."""
        return False

    def unload(self) -> None:
        """See `Editor.unload`; a filter has no weights."""

    def edit(
        self,
        frames: Float[Tensor, "n 3 h w"],
        instruction: str,
        strength: Strength,
        seeds: Sequence[int],
        conditions: Float[Tensor, "n 3 h w"] | None = None,
    ) -> Float[Tensor, "n 3 h w"]:
        """See `Editor.edit`.

        Given conditions, the styled condition is mixed into the frame by the same amount, as a diffusion that starts
        from the noised frame and is guided by the condition ends between the two.
        """
        amount = filter_amount(strength, self.config.full_guidance)
        styles = [STYLES[name].apply for name in named_styles(instruction)]
        edited = []
        for index, seed in enumerate(seeds):
            picture = _to_picture(frames[index])
            if conditions is None:
                edited.append(_styled(picture, styles, amount, seed))
            else:
                target = _styled(_to_picture(conditions[index]), styles, amount, seed)
                edited.append(picture + amount * (target - picture))
        stacked = torch.from_numpy(np.stack(edited)).permute(0, 3, 1, 2)
        return stacked.clamp(0.0, 1.0).to(frames)


def filter_amount(strength: Strength, full_guidance: float) -> float:
    """The amount of a style, 0 to 1: it rises with the guidance and with the fraction of steps that are run."""
    guided = (strength.guidance - 1.0) / max(full_guidance - 1.0, 1e-6)
    return float(np.clip(guided, 0.0, 1.0) * np.clip(strength.steps / strength.full_steps, 0.0, 1.0))


def named_styles(instruction: str) -> list[str]:
    """The styles that an instruction names, in the order in which they are applied.

    Raises:
        NTalkerError: there are none; the message lists the known ones.
    """
    words = check_instruction(instruction).lower()
    found = [name for name, style in STYLES.items() if re.search(rf"\b({style.words})", words)]
    # "Statue" means stone unless it is a bronze statue.
    if "bronze" in found and "stone" in found and not re.search(r"\b(stone|marble)", words):
        found.remove("stone")
    # "A painting by Van Gogh" names his style, not the oil filter.
    if PAINTERS.keys() & set(found) and "painting" in found:
        found.remove("painting")
    if not found:
        known = "; ".join(f"{name} ({style.words.replace('|', ', ')})" for name, style in STYLES.items())
        raise NTalkerError(
            f"The offline filter knows no style named in '{instruction}'. It knows: {known}. For other instructions "
            "use editor:ip2p or editor:diffusers."
        )
    return found


def _styled(picture: Picture, styles: Sequence[Style], amount: float, seed: int) -> Picture:
    for style in styles:
        picture = style(picture, amount, seed)
    return picture


def _to_picture(frame: Float[Tensor, "3 h w"]) -> Picture:
    return np.ascontiguousarray(frame.detach().float().permute(1, 2, 0).cpu().numpy())


def _mix(picture: Picture, styled: Picture, amount: float) -> Picture:
    return np.clip(picture + np.float32(amount) * (styled - picture), 0.0, 1.0)


def _px(picture: Picture, length: float) -> float:
    """A length in px of a 512 px picture, in px of this one."""
    return length * max(picture.shape[:2]) / REFERENCE_SIDE


def _grey(colours: Float32[np.ndarray, "*size 3"]) -> Float32[np.ndarray, "*size"]:
    return colours @ np.array([0.299, 0.587, 0.114], np.float32)


def _blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(values, (0, 0), max(sigma, 0.3))


def _ramp(values: Float32[np.ndarray, "h w"], colours: Sequence[tuple[float, float, float]]) -> Picture:
    """Each brightness as the colour of a ramp, dark to light, that is as bright.

    A picture that already has these colours keeps them: each update edits the result of the previous one.
    """
    brightness = _grey(np.array(colours, np.float32))
    channels = [np.interp(values, brightness, [colour[c] for colour in colours]) for c in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def _with_relief(picture: Picture, relief: float) -> Float32[np.ndarray, "h w"]:
    """Brightness with local differences as strong as those of polished or hewn surfaces.

    They are brought to a strength, not multiplied, so that a second application changes little.

    Args:
        picture: input.
        relief: standard deviation of brightness from its local mean.
    """
    grey = _grey(picture)
    around = _blurred(grey, _px(picture, 12.0))
    detail = grey - around
    gain = min(relief / max(float(detail.std()), 1e-6), MAX_RELIEF_GAIN)
    return np.clip(around + gain * detail, 0.0, 1.0)


def _smooth(picture: Picture, rounds: int, radius: float, sigma: float) -> Picture:
    """Flattened areas with sharp edges (bilateral filter)."""
    diameter = max(int(2 * round(_px(picture, radius)) + 1), 3)
    for _ in range(rounds):
        picture = cv2.bilateralFilter(picture, diameter, sigma, max(_px(picture, radius), 1.0))
    return picture


def _brush_marks(picture: Picture, radius: float) -> Picture:
    """Kuwahara filter (1976): mostly the mean colour of the most uniform of the four squares that meet at a pixel."""
    side = max(round(_px(picture, radius)) + 1, 2)
    total, weights = np.zeros_like(picture), np.zeros(picture.shape[:2], np.float32)
    grey = _grey(picture)
    for corner in ((0, 0), (0, side - 1), (side - 1, 0), (side - 1, side - 1)):
        mean, grey_mean, square = (
            cv2.boxFilter(values, -1, (side, side), anchor=corner) for values in (picture, grey, grey * grey)
        )
        # Soft weights: a hard choice would flicker between frames.
        weight = 1.0 / (np.maximum(square - grey_mean**2, 0.0) + 1e-4) ** 3
        total += weight[..., None] * mean
        weights += weight
    return total / weights[..., None]


def sketch(picture: Picture, amount: float, seed: int) -> Picture:
    """Pencil on paper: brightness divided by its own blur (a colour dodge)."""
    grey = _grey(picture)
    lines = np.clip(grey / np.maximum(_blurred(grey, _px(picture, 6.0)), 1e-3), 0.0, 1.0) ** 3
    shade = 0.75 + 0.25 * np.clip(grey * 1.4, 0.0, 1.0)
    return _mix(picture, _ramp(lines * shade, [(0.10, 0.10, 0.12), (0.97, 0.95, 0.90)]), amount)


def painting(picture: Picture, amount: float, seed: int) -> Picture:
    """Oil paint: brush marks that end at edges, saturated colours."""
    marks = _brush_marks(_brush_marks(picture, 3.0), 2.0)
    mean = marks.mean(axis=-1, keepdims=True)
    rich = np.clip(mean + 1.1 * (marks - mean), 0.0, 1.0)
    curved = rich + 0.04 * np.sin(2.0 * np.pi * (rich - 0.5))
    return _mix(picture, curved.astype(np.float32), amount)


def cartoon(picture: Picture, amount: float, seed: int) -> Picture:
    """Few flat colours inside dark outlines."""
    flat = _smooth(picture, rounds=3, radius=6.0, sigma=0.12)
    steps = 5.0
    # Soft steps: a hard threshold would flicker between frames.
    scaled = flat * steps
    level = np.floor(scaled)
    within = 1.0 / (1.0 + np.exp(-14.0 * (scaled - level - 0.5)))
    poster = (level + within) / steps
    mean = poster.mean(axis=-1, keepdims=True)
    vivid = np.clip(mean + 1.1 * (poster - mean), 0.0, 1.0)
    grey = _blurred(_grey(picture), _px(picture, 1.5))
    edge = grey - _blurred(grey, _px(picture, 4.0))
    ink = np.clip(-(edge + 0.01) / 0.04, 0.0, 1.0)[..., None]
    return _mix(picture, (vivid * (1.0 - 0.85 * ink)).astype(np.float32), amount)


def by_painter(painter: str, picture: Picture, amount: float, seed: int) -> Picture:
    """In the style of one of `PAINTERS`."""
    return _mix(picture, repaint(picture, PAINTERS[painter].style), amount)


def bronze(picture: Picture, amount: float, seed: int) -> Picture:
    """Polished bronze: brightness mapped to metal colours."""
    colours = [
        (0.04, 0.02, 0.01),
        (0.33, 0.18, 0.07),
        (0.72, 0.45, 0.20),
        (0.93, 0.74, 0.45),
        (1.0, 0.95, 0.80),
    ]
    return _mix(picture, _ramp(_with_relief(picture, 0.08), colours), amount)


def stone(picture: Picture, amount: float, seed: int) -> Picture:
    """Stone: grey, with raised relief and no deep shadows."""
    colours = [(0.22, 0.22, 0.23), (0.62, 0.61, 0.59), (0.95, 0.94, 0.91)]
    return _mix(picture, _ramp(_with_relief(picture, 0.08), colours), amount)


def sepia(picture: Picture, amount: float, seed: int) -> Picture:
    """An old photograph's brown."""
    colours = [(0.12, 0.07, 0.03), (0.58, 0.44, 0.29), (1.0, 0.94, 0.80)]
    return _mix(picture, _ramp(_grey(picture), colours), amount)


def _tint(picture: Picture, factors: tuple[float, float, float], amount: float) -> Picture:
    tinted = picture * np.array(factors, np.float32)
    return _mix(picture, tinted.astype(np.float32), amount)


def cold(picture: Picture, amount: float, seed: int) -> Picture:
    """Blue light."""
    return _tint(picture, (0.62, 0.86, 1.15), amount)


def warm(picture: Picture, amount: float, seed: int) -> Picture:
    """Evening light."""
    return _tint(picture, (1.18, 0.94, 0.66), amount)


def warp(picture: Picture, amount: float, seed: int) -> Picture:
    """Displaces pixels smoothly, differently for each seed: a stand-in for an editor that deforms lips."""
    height, width = picture.shape[:2]
    random = np.random.default_rng(seed)
    coarse = random.standard_normal((2, WARP_CELLS, WARP_CELLS)).astype(np.float32)
    reach = amount * WARP_FRACTION * width
    across, down = (reach * cv2.resize(axis, (width, height), interpolation=cv2.INTER_CUBIC) for axis in coarse)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(picture, x + across, y + down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


@dataclass(frozen=True)
class NamedStyle:
    """A style and its keywords."""

    apply: Style
    words: str
    """Beginnings of words, separated by |."""


STYLES: dict[str, NamedStyle] = {
    "warp": NamedStyle(warp, "warp|distort|melt"),
    "cold": NamedStyle(cold, "cold|cool|winter|ice|icy|freez|frozen"),
    "warm": NamedStyle(warm, "warm|sunset|evening|golden"),
    "cartoon": NamedStyle(cartoon, "cartoon|comic|anime|animated|pixar"),
    **{name: NamedStyle(partial(by_painter, name), painter.words) for name, painter in PAINTERS.items()},
    "painting": NamedStyle(painting, "paint|oil|modigliani|impressionis|watercolo"),
    "bronze": NamedStyle(bronze, "bronze|brass|copper"),
    "stone": NamedStyle(stone, "stone|marble|statue|sculpture|bust"),
    "sketch": NamedStyle(sketch, "sketch|pencil|drawing|drawn|charcoal"),
    "sepia": NamedStyle(sepia, "sepia|old photo|vintage|antique photo"),
}
"""In the order in which they are applied if an instruction names several."""
