"""Planted shortcuts: images with one known shortcut, a network that learns it, and how well an audit finds it."""
