"""What the node says about itself, and what is measured."""
