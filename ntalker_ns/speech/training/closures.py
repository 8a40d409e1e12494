"""Learns from synthetic speech, whose phonemes are known, when lips meet and when the lower lip is at the teeth."""

import numpy as np
import torch
from jaxtyping import Float, Float32
from scipy.signal import resample_poly
from torch import Tensor
from torch.nn import functional as F

from ntalker_ns.audio.clock import SAMPLE_RATE, frame_count
from ntalker_ns.audio.whisper import load_whisper
from ntalker_ns.console import track
from ntalker_ns.media.espeak import synthesize_phonemes
from ntalker_ns.speech.closures import Closure, closed_frames, closures_of
from ntalker_ns.speech.prior import window_inputs

TEXTS = {
    "en-us": (
        "A happy baby grabbed my thumb. Perhaps the public may believe him, but many people simply remember the music. "
        "Every evening five of her best friends bring fresh coffee to the office. Look at that long road over there.",
        "We have never seen so much snow in July. The boys were singing loudly as they walked home. Could you say "
        "that again? I thought it was a joke. Please put the blue box back beside the lamp before you leave.",
    ),
    "en-gb-x-rp": (
        "The number of members has become rather small. Both problems were solved by a pump and a pipe. If the river "
        "floods, few of us will have a roof. She said that nothing like this had ever happened to her sister.",
    ),
    "de": (
        "Am Abend haben wir oben im Zimmer gebadet und dabei Musik gehört. Bitte bleib beim Baum, Papa kommt bald. "
        "Vielleicht finden wir vier frische Pfirsiche. Gestern sind die Kinder lange draußen gewesen.",
        "Das Problem ist, dass niemand etwas sagen will. Ob er wirklich um sieben Uhr kommt, weiß ich nicht.",
    ),
    "fr": (
        "Le petit bébé ne mange pas beaucoup de pommes. Il faut faire vite, la fumée vient de la cave. Vous avez vu "
        "la belle maison blanche, au bout de la rue ? Demain, je partirai seul et sans rien dire.",
    ),
    "es": (
        "El problema es que nadie sabe cómo empezar. Mi abuela bebe un poco de vino blanco en familia. Los campos "
        "están verdes porque ha llovido mucho. ¿Quién ha dicho que no se puede hacer?",
    ),
    "it": (
        "Il bambino beve sempre molta acqua prima di dormire. Abbiamo appena comprato una bella palla. Forse verrà "
        "il vento e farà freddo. Questa sera restiamo a casa a leggere un libro.",
    ),
    "nl": (
        "Mijn broer woont boven een bakker in de binnenstad. We hebben vandaag veel appels en peren gekocht. Het "
        "regent al drie dagen, maar morgen schijnt de zon.",
    ),
    "pt": (
        "O meu amigo comprou um barco bem pequeno. Vamos fazer uma festa na sexta-feira, se a família vier. Não há "
        "nada melhor do que um café depois da chuva.",
    ),
    "pl": (
        "Mój brat kupił mały biały dom pod miastem. Proszę, powiedz mamie, że wrócę późno. Fabryka ma wiele okien, "
        "ale żadne z nich się nie otwiera.",
    ),
    "ru": (
        "Наш папа любит пить чай без молока. Вчера вечером мы видели фильм о войне. Бабушка купила пять белых рыб "  # noqa: RUF001
        "и много хлеба. Сегодня на улице тепло и тихо.",
    ),
    "cmn": (
        "爸爸不怕麻烦，每天跑步去买面包。非常方便的飞机票，不贵。明天我们一起去公园看花，好不好？",  # noqa: RUF001
    ),
}
"""What is spoken, by eSpeak NG's language."""

VARIANTS = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5")
RATES = (120, 155, 190)
"""Words a minute."""

RIDGE = 0.01
"""Regularisation of the readouts. Of 0.00001 to 0.03 it is the best on flite's voices, which are of recorded people:
the area under the curve of [p b m] is 0.96 without, 0.97 with it."""

STEPS = 150
"""Iterations of L-BFGS."""


def closure_readout() -> dict[str, Tensor]:
    """The readout, under the names that `load_readout` reads."""
    voices = [
        (text, f"{language}+{variant}", RATES[(place + turn) % len(RATES)])
        for language, texts in TEXTS.items()
        for turn, text in enumerate(texts)
        for place, variant in enumerate(VARIANTS)
    ]
    pairs = [example(*spoken(*voice)) for voice in track(voices, "Speech")]
    inputs, closed = (torch.cat(part) for part in zip(*pairs, strict=True))
    weights, bias = fit_readout(inputs, closed)
    return {"weights": weights.half().contiguous(), "bias": bias}


def spoken(text: str, voice: str, rate: int) -> tuple[Float32[np.ndarray, " samples"], list[Closure]]:
    """Speech at 16 kHz, and its closures."""
    waveform, sample_rate, phonemes = synthesize_phonemes(text, voice, rate)
    closures = closures_of(phonemes, len(waveform) / sample_rate)
    return resample_poly(waveform, SAMPLE_RATE, sample_rate).astype(np.float32), closures


def example(
    waveform: Float32[np.ndarray, " samples"], closures: list[Closure]
) -> tuple[Float[Tensor, "frames inputs"], Float[Tensor, "frames 2"]]:
    """Inputs and targets of a readout."""
    windows = torch.from_numpy(load_whisper().windows(waveform, frame_count(len(waveform))))
    return window_inputs(windows), torch.from_numpy(closed_frames(closures, len(windows))).float()


def fit_readout(
    inputs: Float[Tensor, "frames inputs"], closed: Float[Tensor, "frames 2"]
) -> tuple[Float[Tensor, "inputs 2"], Float[Tensor, "2"]]:
    """Logistic regression with a constant that is not regularised."""
    mean = inputs.mean(dim=0)
    weights = torch.zeros(inputs.shape[1], 2, requires_grad=True)
    bias = torch.logit(closed.mean(dim=0), eps=1e-4).requires_grad_()
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits((inputs - mean) @ weights + bias, closed)
        value = value + RIDGE * weights.square().sum()
        value.backward()
        return value

    optimizer.step(loss)  # type: ignore[arg-type]
    return weights.detach(), (bias - mean @ weights).detach()
