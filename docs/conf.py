"""The documentation site: `pip install -e '.[docs]' && sphinx-build -W docs docs/_build`."""

from ar_net_jax import __version__

project = "ar_net_jax"
author = "The ar_net_jax authors"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "ar_net_jax"

# Headings can be linked to, as `methods.md#heads`.
myst_heading_anchors = 3
# `$` stands for a shell's variables in these pages, not for formulas.
myst_enable_extensions = ["colon_fence", "deflist"]

# Tests run the notebooks.
nb_execution_mode = "off"

autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_use_ivar = True
