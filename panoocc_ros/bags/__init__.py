"""Bags without ROS: reading and writing; and the player and the recorder over DDS."""
