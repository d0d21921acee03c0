"""What everything else builds on; looks at nothing above it. See ARCHITECTURE.md."""
