"""The API reference, made from the docstrings: `make reference` builds it, with warnings as errors."""

import pyminicon

project = "pyminicon"
copyright = "the pyminicon authors"
version = release = pyminicon.__version__
extensions = ["sphinx.ext.autodoc"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
html_theme = "alabaster"
html_theme_options = {"description": "subprocess.run, in a container", "page_width": "1100px"}
html_show_sourcelink = False
nitpicky = False
