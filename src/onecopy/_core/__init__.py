"""The base of the package. It imports nothing above it; see ARCHITECTURE.md."""
