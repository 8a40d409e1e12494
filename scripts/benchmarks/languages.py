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
from ntalker_ns.console import track
from ntalker_ns.media.espeak import Phoneme, synthesize_phonemes
from ntalker_ns.media.sound import SAMPLE_RATE
from ntalker_ns.speech.offset import predicted_openings
from ntalker_ns.speech.prior import load_prior
from scripts.benchmarks.held_out_speech import print_table

TEXTS = {
    "en-us": (
        "Mother may open the window before lunch. We have five brown maps, and a farm above the bay. Who knows?",
        "I remember a warm evening at the beach, when both of my brothers played cards with us.",
        "People often forget how quiet a village becomes after the market has closed.",
        "Could you please move that heavy box away from the door before somebody falls over it?",
    ),
    "de": (
        "Meine Mutter macht bald das Fenster auf. Wir haben fünf braune Karten und einen Hof am Ufer. Wer weiß?",
        "Ich erinnere mich an einen warmen Abend am Strand, als meine beiden Brüder mit uns Karten spielten.",
        "Viele Leute vergessen, wie ruhig ein Dorf wird, wenn der Markt geschlossen ist.",
        "Könnten Sie bitte die schwere Kiste von der Tür wegschieben, bevor jemand darüber fällt?",
    ),
    "fr": (
        "Ma mère va ouvrir la fenêtre avant midi. Nous avons cinq vieilles cartes et une ferme au bord de la mer.",
        "Je me rappelle une belle soirée à la plage, quand mes deux frères jouaient aux cartes avec nous.",
        "Les gens oublient souvent combien un village est calme quand le marché est fermé.",
        "Pourriez-vous pousser cette lourde boîte loin de la porte avant que quelqu'un ne tombe ?",
    ),
    "es": (
        "Mi madre va a abrir la ventana antes de comer. Tenemos cinco mapas viejos y una finca cerca del mar.",
        "Recuerdo una tarde cálida en la playa, cuando mis dos hermanos jugaban a las cartas con nosotros.",
        "La gente olvida a menudo lo tranquilo que se queda un pueblo cuando cierra el mercado.",
        "¿Podría mover esa caja pesada lejos de la puerta antes de que alguien se caiga?",
    ),
    "ru": (
        "Моя мама скоро откроет большое окно. У нас пять старых карт и ферма у моря. Почему бы и нет?",  # noqa: RUF001
        "Я помню тёплый вечер на пляже, когда мои братья играли с нами в карты.",  # noqa: RUF001
        "Люди часто забывают, как тихо становится в деревне, когда рынок закрыт.",
        "Уберите, пожалуйста, этот тяжёлый ящик от двери, пока никто не упал.",
    ),
    "cmn": (
        "我妈妈马上打开大窗户。我们有五张旧地图，海边还有一个农场。为什么不去看看？",  # noqa: RUF001
        "我记得海边一个温暖的晚上，我的两个哥哥和我们一起打牌。",  # noqa: RUF001
        "人们常常忘记，市场关门以后，村子里有多么安静。",  # noqa: RUF001
        "请你把门口那个很重的箱子搬走，免得有人摔倒，好吗？",  # noqa: RUF001
    ),
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
        figures = np.array(
            [
                [[agreement(text, f"{language}+{variant}") for variant in VARIANTS] for text in texts]
                for language, texts in track(TEXTS.items(), "Languages")
            ]
        )
        rows = []
        for language, by_text in zip([*TEXTS, "mean"], [*figures, figures.mean(axis=0)], strict=True):
            texts = by_text.mean(axis=1)
            spread = f"{texts.min():.2f} to {texts.max():.2f}"
            rows.append((language, *(f"{each:.2f}" for each in by_text.mean(axis=0)), f"{by_text.mean():.2f}", spread))
        columns = ("", *VARIANTS, "mean", "by sentence")
        print_table("Predicted opening against the phonemes', correlation", columns, rows)
        means = figures.mean(axis=(1, 2))
        print(f"The worst language reaches {means.min() / means.max():.0%} of the best.")


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
