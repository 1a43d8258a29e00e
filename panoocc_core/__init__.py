"""PanoOcc: dense 3-D occupancy from surround cameras (Wang et al., CVPR 2024, arXiv 2306.10013)."""
