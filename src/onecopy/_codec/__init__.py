"""Encodes objects to bytes and blocks, and decodes them. Imports only `_core`."""
