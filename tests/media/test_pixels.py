"""Bytes and numbers of pictures."""

import numpy as np
import torch

from ntalker_ns.media.pixels import from_uint8, to_uint8


def test_every_level_returns():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_uint8(from_uint8(levels)), levels)
    np.testing.assert_array_equal(to_uint8(from_uint8(torch.from_numpy(levels))), levels)


def test_values_are_rounded_and_clipped():
    values = np.array([-1.0, 0.0, 0.49 / 255, 0.51 / 255, 1.0, 7.0])
    for picture in (values, torch.from_numpy(values)):
        assert to_uint8(picture).tolist() == [0, 0, 0, 1, 255, 255]
