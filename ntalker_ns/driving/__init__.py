"""What drives a head: poses, times and audio features of every frame, from a data set or from new audio."""
