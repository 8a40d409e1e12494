"""Data sets on disk: ours and RAD-NeRF's, their frames, and which pixels a training step sees."""
