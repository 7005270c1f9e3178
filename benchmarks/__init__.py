"""Measures sessions beside the floors under them and a peer; run it with `python3 dev.py bench`."""
