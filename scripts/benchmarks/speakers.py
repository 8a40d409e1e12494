"""How well lips follow people whom the prior over speakers does not know: on each clip of a bank, its speaker left out,
and on data sets.

For each film: without any film of the person but for its sizes ("prior alone"); with their own film, each fifth
predicted from the others with eight frames left out around it, also with the whole film's mean; the same from a stream;
and both without closed lips ([p b m f v]). Beside them what chance reaches (20 circular shifts) and the mean pose.
Intervals are of a bootstrap over speakers, for data sets over their seconds.

Minutes. Example:
    python -m scripts.benchmarks.speakers --bank bank --same-speaker "clip012 clip013 clip014" "clip015 clip016" \
        --data data/anna data/ben
"""

import dataclasses
import json
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from ntalker_ns.audio.clock import FPS, SAMPLE_RATE
from ntalker_ns.audio.features import FeatureInfo
from ntalker_ns.audio.whisper import at_level, load_whisper
from ntalker_ns.cli.run import run_command
from ntalker_ns.console import track
from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.metrics.lips import lip_sync, opening_correlation
from ntalker_ns.speech.adaptation import AdaptedPrior, person_basis
from ntalker_ns.speech.closures import LipClosing, load_readout
from ntalker_ns.speech.lip_regression import GUARD, gains
from ntalker_ns.speech.offset import shifted
from ntalker_ns.speech.prior import LipPrior, load_prior, window_inputs
from ntalker_ns.speech.silence import silence_examples
from ntalker_ns.speech.training.bank import BankClip, lip_displacements, read_bank
from ntalker_ns.speech.training.prior import BankExample, fit_prior
from ntalker_ns.talker_dataparser import TalkerDataParserConfig, read_training_clip
from scripts.benchmarks.held_out_speech import in_step, print_table, streamed

INFO = FeatureInfo("whisper", None, 64)
PARTS, LIP_DIM = 5, 6
HEARD = 0.4
"""How likely a closure must be to count as heard."""
MET = 0.25
"""Gap between closed lips above the person's closed ones, over the openings' standard deviation."""
SPOKEN, PAUSE, NOISE = 1.5, 2.0, -45.0
"""Seconds of speech and of the pause after it, and dBFS of the pink noise in both."""
Shapes = Float[np.ndarray, "n lip_dim"]
Openings = Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Film:
    """A person's film, as regression sees it."""

    name: str
    speaker: str
    sound: Float[np.ndarray, " samples"]
    windows: Float[Tensor, "n 16 channels"]
    shapes: Shapes
    basis: Float[Tensor, "lip_dim points 2"]
    true: Openings
    """Measured openings; NaN where they are not known."""
    prior: LipPrior
    """Without the speaker."""

    @cached_property
    def opens(self) -> Float[np.ndarray, " lip_dim"]:
        """The opening, in units of `true`, for a lip shape of 1."""
        known = np.isfinite(self.true)
        return np.linalg.lstsq(self._columns(self.shapes)[known], self.true[known], rcond=None)[0]

    def opening(self, shapes: Shapes) -> Openings:
        """Of lip shapes."""
        return self._columns(shapes) @ self.opens

    def _columns(self, shapes: Shapes) -> np.ndarray:
        return np.hstack([shapes, np.ones((len(shapes), 1))])

    @property
    def closed(self) -> float:
        """The opening of closed lips."""
        return float(np.nanpercentile(self.true, 5.0))


@dataclass(frozen=True)
class Row:
    """The figures of one film and one way to predict it; NaN where there are none."""

    correlation: float
    within: float
    """Mean of the folds'."""
    error: float
    """Squared error of the six numbers over their variance."""
    amplitude: float
    second: float
    """Second difference over the true one's."""
    met: float
    """Part of the closures that are heard in which lips meet."""
    depth: float
    """How much deeper the opening is in closures seen in the film than around them, over the same of the film."""
    lag: float
    silence: float
    """Opening in a pause with room noise: 0 is closed, 1 the median."""
    chance: float
    """Best of 20 shifted correlations."""


@dataclass
class Speakers:
    """Compare predicted with measured lips on a bank, each speaker left out, and on data sets."""

    bank: Path | None = None
    """Folder of a bank: .npz files with sound and landmarks."""
    same_speaker: tuple[str, ...] = ()
    """Names of clips that show the same person, separated by spaces: "clip012 clip013"."""
    data: tuple[Path, ...] = ()
    """Data sets with whisper features, of people who are not in the prior that comes with the package."""
    look_aheads: tuple[int, ...] = (60,)
    """Look-aheads of streams, in ms."""
    output: Path | None = None
    """A .json file for the figures of each film."""

    def main(self) -> None:
        """Reads, predicts, prints the tables."""
        if self.bank is None and not self.data:
            raise NTalkerError("Give --bank, --data, or both.")
        torch.set_num_threads(1)
        found: dict[str, dict[str, Row]] = {}
        films = [] if self.bank is None else bank_films(self.bank, self.same_speaker)
        if films:
            rows = {film.name: all_rows(film, self.look_aheads) for film in track(films, "Films")}
            speakers = {film.name: film.speaker for film in films}
            show(f"{len(films)} clips of {len(set(speakers.values()))} speakers, each left out", rows, speakers)
            found |= rows
        for folder in self.data:
            film = film_of_data(folder)
            rows = {film.name: all_rows(film, self.look_aheads)}
            show(f"{film.name}, {len(film.shapes) / FPS:.0f} s", rows, {film.name: film.name})
            found |= rows
        if self.output is not None:
            values = {name: {way: dataclasses.asdict(row) for way, row in ways.items()} for name, ways in found.items()}
            self.output.write_text(json.dumps(values, indent=2), "utf8")


def bank_films(folder: Path, same_speaker: tuple[str, ...]) -> list[Film]:
    """The clips of a bank, each with the prior that its speaker is left out of."""
    clips, features = read_bank(folder), load_whisper()
    speakers: dict[str, str] = {name: group.split()[0] for group in same_speaker for name in group.split()}
    unknown = speakers.keys() - {clip.name for clip in clips}
    if unknown:
        raise NTalkerError(f"There is no clip {min(unknown)} in {folder}.")
    made: list[tuple[BankClip, np.ndarray, Tensor, np.ndarray]] = []
    for clip, moved in zip(track(clips, "Features"), lip_displacements(clips), strict=True):
        sound = shifted(clip.waveform, clip.lag)
        windows = torch.from_numpy(features.windows(sound, len(moved))[clip.valid])
        made.append((clip, sound, windows, moved[clip.valid]))
    examples = [example_of(clip, windows, moved) for clip, _, windows, moved in made]
    priors: dict[str, LipPrior] = {}
    films = []
    for clip, sound, windows, moved in made:
        speaker = speakers.get(clip.name, clip.name)
        if speaker not in priors:
            others = [each for each in examples if speakers.get(each.name, each.name) != speaker]
            priors[speaker] = fit_prior(others)
        films.append(bank_film(clip, speaker, sound, windows, moved, priors[speaker]))
    return films


def example_of(clip: BankClip, windows: Tensor, moved: Float[np.ndarray, "n points 2"]) -> BankExample:
    """A clip for the prior's regression."""
    inputs, target = window_inputs(windows.double()), torch.from_numpy(moved).flatten(1)
    return BankExample(clip.name, inputs - inputs.mean(dim=0), target - target.mean(dim=0))


def bank_film(
    clip: BankClip,
    speaker: str,
    sound: Float[np.ndarray, " samples"],
    windows: Tensor,
    moved: Float[np.ndarray, "n points 2"],
    prior: LipPrior,
) -> Film:
    """A clip of a bank, its lips described by the six principal components of their own movement, as a head's are."""
    flat = (moved - moved.mean(axis=0)).reshape(len(moved), -1)
    _, _, axes = np.linalg.svd(flat, full_matrices=False)
    basis = torch.from_numpy(axes[:LIP_DIM].reshape(LIP_DIM, -1, 2).copy())
    shapes = (flat @ axes[:LIP_DIM].T).astype(np.float32)
    upper, lower = LipClosing(basis).heights
    true = flat @ axes.T[:, :LIP_DIM] @ (upper - lower).numpy()
    return Film(clip.name, speaker, sound, windows, shapes, basis, true, prior)


def film_of_data(folder: Path) -> Film:
    """A data set."""
    _, sequence = read_training_clip(TalkerDataParserConfig(data=folder))
    if sequence.feature_info.extractor != "whisper":
        raise NTalkerError(f"{folder} has no whisper features: process its clip with --features whisper.")
    part = sequence.track
    basis = torch.from_numpy(sequence.rig.lip_basis)
    sound, windows = in_step(folder, sequence), torch.from_numpy(part.features)
    return Film(folder.name, folder.name, sound, windows, part.lip_shapes, basis, part.mouth_opening, load_prior())


def all_rows(film: Film, look_aheads: tuple[int, ...]) -> dict[str, Row]:
    """The figures of every way to predict a film."""
    plain, closed = prior_alone(film)
    ways = {"prior alone, not closed": plain, "prior alone": closed}
    frames = np.arange(len(film.shapes))
    parts = np.array_split(frames, PARTS)
    models = [fitted(film, frames[(frames < part[0] - GUARD) | (frames > part[-1] + GUARD)]) for part in parts]
    given = {"own film": film.windows} | {
        f"stream, {each} ms": torch.from_numpy(streamed(film.sound, each, len(film.shapes))) for each in look_aheads
    }
    for name, windows in given.items():
        ways[f"{name}, not closed"] = predicted_parts(models, parts, windows, closing=False)
        ways[name] = predicted_parts(models, parts, windows, closing=True, of_stream=name != "own film")
    for model in models:
        set_mean(model, film)
    ways["own film, its mean"] = predicted_parts(models, parts, film.windows, closing=True)
    silence = opening_in_a_pause(film)
    rows = {name: row_of(film, shapes, silence if name == "own film" else np.nan) for name, shapes in ways.items()}
    mean = np.broadcast_to(film.shapes.mean(axis=0), film.shapes.shape)
    return rows | {"mean pose": row_of(film, mean, np.nan)}


def prior_alone(film: Film) -> tuple[Shapes, Shapes]:
    """What the prior predicts, as large as the person's movements are, without and with closed lips."""
    inputs = window_inputs(film.windows.double())
    shapes = torch.from_numpy(film.shapes).double()
    centred = shapes - shapes.mean(dim=0)
    codes = film.prior.codes(inputs - inputs.mean(dim=0))
    predicted = codes @ person_basis(film.prior, centred, film.basis.double())
    predicted = predicted * gains(predicted, centred, 0.75) + shapes.mean(dim=0)
    bounds = shapes.amin(dim=0), shapes.amax(dim=0)
    predicted = predicted.clamp(*bounds).float()
    closing = LipClosing(film.basis)
    closing.fit(shapes)
    closed = closing(predicted, load_readout()(film.windows)).clamp(*(bound.float() for bound in bounds))
    return predicted.numpy(), closed.numpy()


def predicted_parts(
    models: list[AdaptedPrior],
    parts: list[np.ndarray],
    given: Float[Tensor, "n 16 channels"],
    closing: bool,
    of_stream: bool = False,
) -> Shapes:
    """Each part's lip shapes by the model that the others have adapted."""
    predicted = []
    for model, part in zip(models, parts, strict=True):
        learned = model.closing
        if not closing:
            model.closing = LipClosing(model.lip_basis)
        predicted.append(model.lip_shapes(given[part], load_readout(of_stream)(given[part])).numpy())
        model.closing = learned
    return np.concatenate(predicted)


def fitted(film: Film, frames: np.ndarray) -> AdaptedPrior:
    """The prior, adapted by some frames of the film."""
    shapes = film.shapes[frames]
    model = AdaptedPrior(INFO.channels, film.basis, load_readout())
    silence = silence_examples(INFO, shapes, film.true[frames])
    model.fit(film.windows[frames], torch.from_numpy(shapes), silence, film.prior)
    return model


def set_mean(model: AdaptedPrior, film: Film) -> None:
    """Gives what a model predicts, before lips are closed, the mean of the whole film's lip shapes, as `prior_alone`
    has it. The mean of the other fifths errs the more, the further a fifth's own is from it."""
    closing, model.closing = model.closing, LipClosing(model.lip_basis)
    predicted = model.lip_shapes(film.windows, torch.zeros(len(film.windows), 2))
    model.closing = closing
    model.get_buffer("offset").add_(torch.from_numpy(film.shapes.mean(axis=0)) - predicted.mean(dim=0))


def opening_in_a_pause(film: Film) -> float:
    """How open the mouth is after the end of the film's speech, in a room: 0 is closed, 1 the median opening."""
    count = round((SPOKEN + PAUSE) * SAMPLE_RATE)
    spectrum = np.fft.rfft(np.random.default_rng(5).standard_normal(count))
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 30)), count)
    sound = (10.0 ** (NOISE / 20.0) * pink / pink.std()).astype(np.float32)
    spoken = at_level(film.sound)[-round(SPOKEN * SAMPLE_RATE) :]
    sound[: len(spoken)] += spoken
    first = round((SPOKEN + 0.4) * FPS)
    windows = torch.from_numpy(load_whisper().windows(sound, count * FPS // SAMPLE_RATE)[first:-8])
    openings = film.opening(fitted(film, np.arange(len(film.shapes))).lip_shapes(windows).numpy())
    return float((openings.mean() - film.closed) / (np.nanmedian(film.true) - film.closed))


def row_of(film: Film, shapes: Shapes, silence: float) -> Row:
    """The figures of predicted shapes."""
    predicted, true = film.opening(shapes), film.true
    sync = lip_sync(predicted, true)
    parts = np.array_split(np.arange(len(true)), PARTS)
    within = [opening_correlation(predicted[part], true[part]) for part in parts]
    error = np.square(shapes - film.shapes).sum() / np.square(film.shapes - film.shapes.mean(axis=0)).sum()
    return Row(
        correlation=sync.correlation,
        within=float(np.mean(within)),
        error=float(error),
        amplitude=sync.amplitude_ratio,
        second=_roughness(predicted) / _roughness(true),
        met=lips_meet(film, predicted),
        depth=closure_depth(predicted, true),
        lag=float(sync.lag) if predicted.std() > 0 else float("nan"),
        silence=silence,
        chance=max(sync.shifted),
    )


def lips_meet(film: Film, predicted: Openings) -> float:
    """In which part of the closures heard in the sound predicted lips meet, a frame more or less."""
    likely = load_readout()(film.windows)[:, 0].numpy()
    gaps = (predicted - film.closed) / np.nanstd(film.true)
    found = [place for place in _peaks(likely) if likely[place] > HEARD]
    return float(np.mean([gaps[place - 1 : place + 2].min() < MET for place in found])) if found else float("nan")


def closure_depth(predicted: Openings, true: Openings) -> float:
    """How much smaller the predicted opening is in closures that the film shows than four and five frames before and
    after, over how much smaller the true one is."""
    closed, spread = np.nanpercentile(true, 5.0), np.nanstd(true)
    depths: list[tuple[float, float]] = []
    for place in _peaks(-np.nan_to_num(true, nan=np.inf), 5):
        around = [place - 5, place - 4, place + 4, place + 5]
        depth = np.mean(true[around]) - true[place]
        if true[place] < closed + MET * spread and depth > spread:
            low = predicted[place - 1 : place + 2].min()
            depths.append((float(np.mean(predicted[around]) - low), float(depth)))
    return sum(own for own, _ in depths) / sum(true for _, true in depths) if depths else float("nan")


def _peaks(values: np.ndarray, margin: int = 2) -> list[int]:
    return [
        place
        for place in range(margin, len(values) - margin)
        if values[place] > values[place - 1] and values[place] >= values[place + 1]
    ]


def _roughness(openings: Openings) -> float:
    return float(np.sqrt(np.nanmean(np.square(np.diff(openings, n=2)))))


def show(title: str, rows: dict[str, dict[str, Row]], speakers: dict[str, str]) -> None:
    """Prints the mean of each figure over clips, and its 95% interval over speakers: a line for each."""
    ways = list(next(iter(rows.values())))
    table = []
    for name in (each.name for each in dataclasses.fields(Row)):
        of = abs if name == "lag" else float
        cells = [summary({clip: of(getattr(row[way], name)) for clip, row in rows.items()}, speakers) for way in ways]
        table.append((name, *cells))
    print_table(title, ("", *ways), table)


def summary(values: dict[str, float], speakers: dict[str, str]) -> str:
    """Mean over clips, and the 95% interval of a bootstrap over speakers where there are several."""
    groups: dict[str, list[float]] = {}
    for clip, value in values.items():
        if np.isfinite(value):
            groups.setdefault(speakers[clip], []).append(value)
    if not groups:
        return "-"
    everything = [value for group in groups.values() for value in group]
    if len(groups) == 1:
        return f"{np.mean(everything):.2f}"
    rng, lists = np.random.default_rng(0), list(groups.values())
    means = [
        np.mean([value for place in rng.integers(0, len(lists), len(lists)) for value in lists[place]])
        for _ in range(1000)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{np.mean(everything):.3f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    sys.exit(run_command(tyro.cli(Speakers)))
