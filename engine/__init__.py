"""The engine: explains every image of a dataset once and publishes the result."""
