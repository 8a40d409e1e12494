"""How fast it is: each part beside its peer in nerfstudio, in the same run on the same machine."""
