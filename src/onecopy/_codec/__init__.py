"""Objects to bytes and blocks, and back; looks at `_core` only. See ARCHITECTURE.md."""
