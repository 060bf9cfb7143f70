"""The engine's process uses one allocator."""

import os
import subprocess
import sys


def said(**given: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "ARROW_DEFAULT_MEMORY_POOL"} | given
    command = "import engine.batch_rows, pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    return subprocess.run(
        [sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_arrow_takes_its_memory_from_malloc_unless_somebody_chose_otherwise():
    assert said() == "system"
    assert said(ARROW_DEFAULT_MEMORY_POOL="mimalloc") == "mimalloc"
