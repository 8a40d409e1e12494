"""From a field to pixels: which samples a ray needs, and what they add up to."""
