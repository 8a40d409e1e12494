"""Detail that a field cannot hold: the refinement network, its discriminator, and the losses of an edit."""
