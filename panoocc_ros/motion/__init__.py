"""How the vehicle moves: where it was at a time, and its rates, from transforms, odometry and an IMU."""
