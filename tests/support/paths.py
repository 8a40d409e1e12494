"""Where the project's files lie, and the real clips beside it, which are there on some machines only."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
REPOSITORY = TESTS.parent
MEDIA = REPOSITORY.parent / "shared" / "media"
