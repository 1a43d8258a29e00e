"""The simulator as messages, in bags and live."""
