"""From messages to frames: what a network gets."""
