"""How well lips follow speech of several languages and voices: the opening that the prior over speakers predicts from
synthetic speech, against the one that its phonemes call for.

Takes seconds. Example:
    python -m scripts.benchmarks.languages
"""

import sys
from dataclasses import dataclass

import numpy as np
import tyro
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d
from scipy.signal import resample_poly

from ntalker_ns.cli.run import run_command
from ntalker_ns.media.espeak import Phoneme, synthesize_phonemes
from ntalker_ns.media.sound import SAMPLE_RATE
from ntalker_ns.speech.offset import predicted_openings
from ntalker_ns.speech.prior import load_prior
from scripts.benchmarks.held_out_speech import print_table

TEXTS = {
    "en-us": "Mother may open the window before lunch. We have five brown maps, and a farm above the bay. Who knows?",
    "de": "Meine Mutter macht bald das Fenster auf. Wir haben fünf braune Karten und einen Hof am Ufer. Wer weiß?",
    "fr": "Ma mère va ouvrir la fenêtre avant midi. Nous avons cinq vieilles cartes et une ferme au bord de la mer.",
    "es": "Mi madre va a abrir la ventana antes de comer. Tenemos cinco mapas viejos y una finca cerca del mar.",
    "ru": "Моя мама скоро откроет большое окно. У нас пять старых карт и ферма у моря. Почему бы и нет?",  # noqa: RUF001
    "cmn": "我妈妈马上打开大窗户。我们有五张旧地图，海边还有一个农场。为什么不去看看？",  # noqa: RUF001
}
VARIANTS = ("m1", "m3", "m7", "f1", "f2", "f4")

OPENNESS = {
    **dict.fromkeys("aɑæɐ", 1.0),  # noqa: RUF001
    **dict.fromkeys("ʌɛɜ", 0.75),
    **dict.fromkeys("eəɘɤɒ", 0.55),
    **dict.fromkeys("iɪɨɔœ", 0.4),  # noqa: RUF001
    **dict.fromkeys("hɦkɡgŋxɣχʁqlrɹɾɫʎjɲɭɻ", 0.3),  # noqa: RUF001
    **dict.fromkeys("oøɵ", 0.25),
    **dict.fromkeys("tdnszʃʒθðɕʑʂʐcɟɖʈɳ", 0.22),
    **dict.fromkeys("uʊyʏwɥɯʉ", 0.12),  # noqa: RUF001
    **dict.fromkeys("fvʋ", 0.08),  # noqa: RUF001
    **dict.fromkeys("pbmβɸ", 0.0),
}
"""How far the inner lips open, from closed to an open vowel; rounded vowels leave a small gap. A phoneme takes the most
open of its letters."""

RATE, SPREAD = 50, 0.045
"""Values a second, and standard deviation in seconds of what neighbouring phonemes share."""

BURST = 0.06
"""Seconds by which the closure of [p] comes before eSpeak NG's time of it, which is that of the burst."""


@dataclass
class Languages:
    """Compare predicted with articulatory openings by language and by voice."""

    def main(self) -> None:
        """Speaks, predicts, prints the table."""
        figures = {
            language: [agreement(text, f"{language}+{variant}") for variant in VARIANTS]
            for language, text in TEXTS.items()
        }
        rows = [
            (language, *(f"{each:.2f}" for each in row), f"{np.mean(row):.2f}") for language, row in figures.items()
        ]
        means = np.array(list(figures.values()))
        rows.append(("mean", *(f"{each:.2f}" for each in means.mean(axis=0)), f"{means.mean():.2f}"))
        print_table("Predicted opening against the phonemes', correlation", ("", *VARIANTS, "mean"), rows)
        print(f"The worst language reaches {means.mean(axis=1).min() / means.mean(axis=1).max():.0%} of the best.")


def agreement(text: str, voice: str) -> float:
    """Correlation of the opening that is predicted from a spoken text with the one that its phonemes call for."""
    waveform, rate, phonemes = synthesize_phonemes(text, voice)
    waveform = resample_poly(waveform, SAMPLE_RATE, rate).astype(np.float32)
    frames = len(waveform) * RATE // (2 * SAMPLE_RATE)
    predicted = predicted_openings(waveform, frames, load_prior())
    return float(np.corrcoef(predicted, called_for(phonemes, len(predicted)))[0, 1])


def called_for(phonemes: list[Phoneme], steps: int) -> Float[np.ndarray, " steps"]:
    """The opening that phonemes call for, 0 to 1.

    Args:
        phonemes: with their beginnings, in order.
        steps: at `RATE`.
    """
    times, openings = np.arange(steps) / RATE, np.zeros(steps)
    value = 0.0
    for phoneme, following in zip(phonemes, [*phonemes[1:], Phoneme("", steps / RATE)], strict=True):
        # Signs alone, such as that of palatal consonants, belong to the phoneme before.
        value = openness(phoneme) if phoneme.ipa != "ʲ" else value
        start = phoneme.start - (BURST if phoneme.ipa.startswith("p") else 0.0)
        openings[(times >= start) & (times < following.start)] = value
    return gaussian_filter1d(openings, SPREAD * RATE)


def openness(phoneme: Phoneme) -> float:
    """Of one phoneme; 0 for a pause."""
    return max((OPENNESS[letter] for letter in phoneme.ipa if letter in OPENNESS), default=0.0)


if __name__ == "__main__":
    sys.exit(run_command(tyro.cli(Languages)))
