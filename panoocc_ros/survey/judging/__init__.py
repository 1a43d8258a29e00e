"""What speaks against a rig: its cameras, their times and views, and what falls silent."""
