"""What `engine.verification` is made of: the model again, images, patches, trials, intervals and verdicts."""
