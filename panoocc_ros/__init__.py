"""PanoOcc in ROS 2: the node, and the same assembler on bags.  Only files that need a node import rclpy."""
