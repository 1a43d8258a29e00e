"""Between the core's types and messages."""
