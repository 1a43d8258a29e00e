"""Messages in time: images of one instant become sets, transforms a tree that knows every moment."""
