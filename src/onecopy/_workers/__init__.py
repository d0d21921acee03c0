"""What all kinds of worker processes have in common. See ARCHITECTURE.md."""
