"""Multi-resolution hash grids in 2D and 3D: a reference in torch, faster backends that give the same numbers."""
