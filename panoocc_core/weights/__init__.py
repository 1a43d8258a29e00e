"""Weights: published files, seeds, initial values, and a network made ready to infer."""
