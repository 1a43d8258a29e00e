"""What commands share: options, and the exit status of what went wrong."""
