"""The command `panoocc`: every command and its options."""
