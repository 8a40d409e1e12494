"""A made-up talking clip whose poses, mouth openings and blinks are known: no network, no weights, no video needed."""
