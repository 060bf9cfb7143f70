"""Opens a table in Renumics Spotlight, in whose environment it runs: until the server answers, and until the table is delivered."""

from __future__ import annotations

import json
import sys
import time
import urllib.request


def fetch(url: str) -> bytes:
    """Return what a server answers."""
    with urllib.request.urlopen(url, timeout=300) as answer:
        return bytes(answer.read())


def main() -> None:
    start = time.perf_counter()
    import pandas as pd
    from renumics import spotlight

    table = pd.read_parquet(sys.argv[1])
    viewer = spotlight.show(table, no_browser=True, wait=False, analyze=False, host="127.0.0.1", port="auto")
    url = f"http://127.0.0.1:{viewer.port}"
    fetch(url + "/")
    opened = time.perf_counter() - start
    start = time.perf_counter()
    answer = json.loads(fetch(url + "/api/table/"))
    delivered = time.perf_counter() - start
    names = [column["name"] for column in answer["columns"]]
    print(
        f"Spotlight: {len(table):,} samples, {len(names)} columns; open {opened:.1f} s, table delivered {delivered:.1f} s"
    )
    viewer.close()


if __name__ == "__main__":
    main()
