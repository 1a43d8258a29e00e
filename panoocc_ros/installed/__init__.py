"""What packages of an installed ROS 2 can do in place of our own: one seam each, imported where it is asked for."""
