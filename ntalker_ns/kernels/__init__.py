"""The numerical kernels: one operation, several backends."""
