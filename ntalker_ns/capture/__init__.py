"""From a video clip to a data set on disk: decode, crop, track, parse, write."""
