"""Discovery: proposes shortcuts from what a run holds; `engine.verification` proves or refutes them."""
