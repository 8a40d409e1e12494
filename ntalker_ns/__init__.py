"""Audio-driven, instruction-edited talking radiance fields for nerfstudio."""

__version__ = "0.2.0"
