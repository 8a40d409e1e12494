"""A head of Gaussians: initialisation, motion, relocation and export."""
