"""Executors: where the work of an audit is done."""
