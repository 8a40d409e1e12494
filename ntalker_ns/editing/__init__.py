"""Instruction edits: the dataset update, its schedule and store, and the editors of its frames."""
