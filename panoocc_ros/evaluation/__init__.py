"""Grids against the truth, live and from bags."""
