"""Trains and compares heads: the paper's tables, and the user study."""
