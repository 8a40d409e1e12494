"""Real-time heads: streaming audio in, synchronised pictures and audio out."""
