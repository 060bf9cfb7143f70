"""The dashboard: shows a run to people. It never imports the engine or PyTorch."""
