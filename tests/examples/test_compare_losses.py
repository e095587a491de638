import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "compare_losses.py"


def test_the_page_of_losses_shows_what_the_comparison_prints():
    assert runpy.run_path(str(EXAMPLE))["table"]() in (ROOT / "docs" / "losses.md").read_text()
