"""Bags without ROS: reading, writing, replaying; and the player and the recorder over DDS."""
