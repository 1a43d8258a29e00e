"""PanoOcc in ROS 2: the node, and the same pipeline on bags.  Only files that need a node import rclpy."""
