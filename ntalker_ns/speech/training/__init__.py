"""Makes the weights that come with the package: `python -m ntalker_ns.speech.training -h`."""
