"""The kinds of datasets, a module each; every module here is found by itself and defines ``KIND``."""
