"""From what a camera sends to what a network sees: files of pixels, lenses, mounts, and sets of images in files."""
