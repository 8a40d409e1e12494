"""From audio features to lip shapes."""
