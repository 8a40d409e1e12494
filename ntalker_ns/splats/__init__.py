"""A head of Gaussians: how they begin, move and are renewed."""
