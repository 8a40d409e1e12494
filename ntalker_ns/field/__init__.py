"""The talking radiance field: density and colour in space, conditioned on speech."""
