"""The contract: what a run is on disk and how it is asked."""
