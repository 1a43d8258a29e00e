"""The seam to rclpy."""
