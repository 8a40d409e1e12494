"""Edits of pictures: who makes them, how strong they are, where they are kept."""
