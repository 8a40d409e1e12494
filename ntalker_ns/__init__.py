"""Audio-driven, instruction-edited talking radiance fields for nerfstudio."""
