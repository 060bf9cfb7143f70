from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.dashboard.conftest import ROOT

SCRIPT = """
import importlib, pkgutil, sys
import dashboard
for module in pkgutil.walk_packages(dashboard.__path__, "dashboard."):
    if module.name not in ("dashboard.app", "dashboard.__main__") and ".app_pages" not in module.name:
        importlib.import_module(module.name)
found = sorted(name for name in sys.modules if name.split(".")[0] in ("torch", "torchvision", "engine", "captum"))
print(found)
"""


def run(code: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_clean_process_imports_the_dashboard_without_torch_or_the_engine() -> None:
    assert run(SCRIPT, ROOT) == "[]"


def test_pages_import_neither_torch_nor_the_engine() -> None:
    for page in (ROOT / "dashboard" / "app_pages").glob("*.py"):
        assert "torch" not in page.read_text()
        assert "import engine" not in page.read_text()
        assert "from engine" not in page.read_text()


def test_the_dashboards_requirements_have_no_torch() -> None:
    lines = (ROOT / "dashboard" / "requirements.txt").read_text().lower()
    assert "torch" not in lines
    for package in ("streamlit", "duckdb", "pyarrow", "numpy", "plotly", "pillow", "typer", "jinja2"):
        assert package in lines


def test_streamlit_finds_the_rooms_from_elsewhere(tmp_path: Path) -> None:
    """A hosted dashboard has only its own folder on the import path."""
    code = (
        f"import sys; sys.path[:] = [p for p in sys.path if p not in ('', {str(ROOT)!r})]\n"
        f"from streamlit.testing.v1 import AppTest\n"
        f"app = AppTest.from_file({str(ROOT / 'dashboard' / 'app.py')!r}, default_timeout=60).run()\n"
        "print([e.value for e in app.exception], 'No run here yet' in str([m.value for m in app.markdown]))"
    )
    assert run(code, tmp_path).splitlines()[-1] == "[] True"


def test_what_pages_need_is_imported_ahead_without_torch_or_the_engine() -> None:
    code = (
        "import sys; from dashboard import preload; preload.preload()\n"
        "wanted = {'pandas', 'duckdb', 'plotly.graph_objects', 'dashboard.sample_maps', 'dashboard.components.gallery'}\n"
        "print(wanted <= set(sys.modules), {'torch', 'engine', 'dashboard.app'} & set(sys.modules))"
    )
    assert run(code, ROOT) == "True set()"


def test_what_was_imported_is_not_looked_through_after_every_run() -> None:
    code = (
        "import gc; from dashboard import preload; preload.preload()\n"
        "print(gc.get_freeze_count() > 20 * len(gc.get_objects()))"
    )
    assert run(code, ROOT) == "True"
