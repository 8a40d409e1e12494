"""Sound in: reading it, its clock, and the features that drive a head."""
