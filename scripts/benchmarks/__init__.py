"""How fast the head is, part by part, beside its peers: `python -m scripts.benchmarks.run -h`."""
