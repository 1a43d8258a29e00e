"""Training: targets from the ground truth, losses."""
