"""System checks at start."""
