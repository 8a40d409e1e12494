"""A head that is talked to: sound in as it comes, pictures and sound out in step."""
