"""Settings of the documentation site, which `make docs` builds; sources are the documents of the whole project."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

import haepo_jax

project = "haepo_jax"
author = "the authors of haepo_jax"
version = release = haepo_jax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "math_as_mathml",
    "project_files",
    "public_names",
    "setting_entries",
    "study_pages",
]

# The documents link to one another and to code as files of the project, so that all of it is the source.
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**", "tests/README.md"]
exclude_patterns = [".*", "build", "runs", "docs/site", "**/*.egg-info"]

# Markdown and notebooks, as they read on a git host.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # a test executes them
smartquotes = False

# Docstrings: single backticks are names where there are such, and code elsewhere.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
maximum_signature_line_length = 80
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"haepo_jax {version}"
html_static_path = ["static"]
templates_path = ["templates"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "first_page.html"}  # the first page is among the documents
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False  # LICENSE has it
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5a8f", "color-brand-content": "#0b5a8f"},
    "dark_css_variables": {"color-brand-primary": "#7cc4ff", "color-brand-content": "#7cc4ff"},
}
pygments_style = "tango"
pygments_dark_style = "github-dark"
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
