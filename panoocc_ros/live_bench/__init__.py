"""How long the node takes from an image's arrival to its grid, and what is lost on the way: measured over DDS."""
