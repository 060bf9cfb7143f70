"""The engine: explains every image of a dataset once and publishes the result."""

import os

# Arrow asks for its allocator when it first allocates. The one it brings along keeps the pages of every small piece
# that a long audit reads and writes: 55 MB more while methods are compared on 50,000 images, against 7 MB with malloc.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
