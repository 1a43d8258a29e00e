"""Training: targets from the ground truth, losses (MODEL section 10)."""
