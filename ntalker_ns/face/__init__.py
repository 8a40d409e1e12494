"""Geometry of faces: landmark indices, keypoints, bases of lip and brow shapes, eyelids, the shell around the skin."""
