"""Reading and writing of videos, sound and pictures."""
