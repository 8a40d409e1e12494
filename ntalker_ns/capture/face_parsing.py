"""Labels from a transformers face-parsing model with CelebAMask-HQ's classes, by hub id or folder."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from ntalker_ns.capture.parsing import paint_mouth
from ntalker_ns.data.head_removal import BACKGROUND, HEAD, LIPS, MOUTH_INTERIOR, TORSO
from ntalker_ns.errors import NTalkerError

CLASSES = {
    "background": BACKGROUND,
    "skin": HEAD,
    "nose": HEAD,
    "eye_g": HEAD,
    "l_eye": HEAD,
    "r_eye": HEAD,
    "l_brow": HEAD,
    "r_brow": HEAD,
    "l_ear": HEAD,
    "r_ear": HEAD,
    "mouth": MOUTH_INTERIOR,
    "u_lip": LIPS,
    "l_lip": LIPS,
    "hair": HEAD,
    "hat": HEAD,
    "ear_r": HEAD,
    "neck_l": TORSO,
    "neck": TORSO,
    "cloth": TORSO,
}
"""CelebAMask-HQ's 19 classes in their order, and our labels of them."""


class FaceParser:
    """A semantic segmentation model, as a labeller of frames.

    Args:
        model: hub id or local folder.

    Raises:
        NTalkerError: the model cannot be loaded or has other classes.
    """

    def __init__(self, model: str):
        from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

        try:
            self._processor = AutoImageProcessor.from_pretrained(model)
            self._model = AutoModelForSemanticSegmentation.from_pretrained(model).eval()
        except Exception as error:
            # transformers raises many kinds of error for one cause: the weights are not there.
            where = "folder" if Path(model).is_dir() else "hub id or folder"
            raise NTalkerError(
                f"The face-parsing model '{model}' cannot be loaded; give another {where} with --parsing-model, "
                "or leave the option out to use the clip's own colours."
            ) from error
        self.label_of_class = _label_table(self._model.config.id2label, model)

    def __call__(
        self,
        image: UInt8[np.ndarray, "s s 3"],
        person: Bool[np.ndarray, "s s"],
        points: Float[np.ndarray, "478 2"],
    ) -> UInt8[np.ndarray, "s s"]:
        """Labels one frame.

        Args:
            image: RGB.
            person: the person's matte; what the model leaves out of it is torso.
            points: landmarks, px: lips and mouth are painted from their outlines, which follow speech more closely.

        Returns:
            One of the five labels per pixel.
        """
        import torch

        with torch.inference_mode():
            inputs = self._processor(images=image, return_tensors="pt")
            logits = self._model(**inputs).logits
            logits = torch.nn.functional.interpolate(logits, image.shape[:2], mode="bilinear", align_corners=False)
        labels = self.label_of_class[logits[0].argmax(dim=0).numpy()]
        labels = np.where(labels >= LIPS, HEAD, labels)
        labels = np.where((labels == BACKGROUND) & person, TORSO, labels)
        return paint_mouth(labels.astype(np.uint8), points)


def _label_table(names: dict[int, str], model: str) -> UInt8[np.ndarray, "classes"]:
    """Our label of each of the model's classes: by name, or by order where the names say nothing."""
    if len(names) == len(CLASSES) and all(name.startswith("LABEL_") for name in names.values()):
        return np.array(list(CLASSES.values()), np.uint8)
    unknown = [name for name in names.values() if name not in CLASSES]
    if unknown:
        raise NTalkerError(
            f"The model '{model}' has classes such as '{unknown[0]}' where CelebAMask-HQ's face-parsing classes are "
            "needed; give another one with --parsing-model."
        )
    return np.array([CLASSES[names[k]] for k in sorted(names)], np.uint8)
