"""The talking radiance field: what is where, given what is heard."""
