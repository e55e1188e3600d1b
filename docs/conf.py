"""The documentation as a site: `make docs` writes build/site/index.html.

The pages are plain Markdown, which GitHub shows as it is. What only the site needs is here and in _ext.
"""

import re
import sys
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import docstrings
from notebooks import to_markdown
from site_contents import CONTENTS

import allmodes

project = "allmodes"
author = "the authors of allmodes"
release = version = allmodes.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_*", "conf.py", "images/**.py"]
root_doc = "index"

myst_heading_anchors = 4  # links to headings, by the same rule as GitHub's
myst_links_external_new_tab = False

add_module_names = False
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "allmodes"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_search_summary = False  # it would fetch pages, which browsers refuse for files of a disk
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
# The site is read from a disk: no search engine, no address, nothing loaded from a network.
html_use_opensearch = ""
html_theme_options = {"top_of_page_buttons": []}


# Pages at the top of the repository, and where the site has them.
TOP_PAGES = {"CONTRIBUTING": "/contributing", "README": "/index"}


def _for_site(app: Sphinx, docname: str, source: list[str]) -> None:
    """Lead links out of this folder to what the site has, and append a page's part of the contents.

    Python files out there are downloads, while those of this folder are notebooks. The contents are out of
    sight: a page's own links say to a reader what follows.
    """
    for name, page in TOP_PAGES.items():
        source[0] = re.sub(rf"\]\((\.\./)+{name}\.md", f"]({page}.md", source[0])
    outside = r"\[([^\]]+)\]\(((?:\.\./)+(?:examples|src|tests)/[^)]+\.py)\)"
    source[0] = re.sub(outside, r"{download}`\1 <\2>`", source[0])
    for caption, pages in CONTENTS.get(docname, {}).items():
        options = f":caption: {caption}\n" if caption else ""
        listed = "\n".join(pages)
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n{options}\n{listed}\n```\n"


class NotebookParser(MystParser):
    """Markdown of a notebook and of what it printed."""

    supported: ClassVar[tuple[str, ...]] = ("notebook",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """Sphinx's hook for a file of this kind."""
        super().parse(to_markdown(inputstring), document)


def setup(app: Sphinx) -> None:
    """Register what Sphinx calls while it reads."""
    app.connect("source-read", _for_site)
    app.connect("autodoc-process-docstring", docstrings.read_docstring)
    app.connect("autodoc-process-signature", docstrings.read_signature)
    app.add_lexer("csv", TextLexer)
    app.add_source_suffix(".py", "notebook")
    app.add_source_parser(NotebookParser)
