"""What MkDocs does besides its plugins: generated pages, and formulas as MathML, which browsers show by themselves."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

HERE = Path(__file__).parent
GENERATED = {"reference/configuration.md": "generate_configuration.py", "reference/run-file.md": "generate_run_file.py"}
MERMAID = re.compile(r'<script type="module">(?:(?!</script>).)*mermaid(?:(?!</script>).)*</script>', re.S)
INCLUDE = re.compile(r"^<!-- include: (\S+) -->$", re.M)
MARKDOWN = re.compile(r'href="((?!\w+:)[^"#]+)\.md')


def as_mathml(source: str, *_arguments: Any, **_keywords: Any) -> str:
    """Return a displayed formula; superfences calls it for each fence `math`."""
    return convert(source.replace("\n", " "), display="block")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the fence."""
    fences = [{"name": "math", "class": "math", "format": as_mathml}]
    config.mdx_configs["pymdownx.superfences"] = {"custom_fences": fences}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the code."""
    for page, script in GENERATED.items():
        content = runpy.run_path(str(HERE / script))["page"]()
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_keywords: Any) -> str:
    """Put the scripts that a page includes in their places."""
    folder = (HERE / page.file.src_uri).parent
    return INCLUDE.sub(lambda match: f"```python\n{(folder / match[1]).read_text(encoding='utf-8')}```", markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001 - as MkDocs calls it
    """Mend notebooks: no script that would load diagrams from the network, and links to pages as the site has them."""
    if not page.file.src_uri.endswith(".ipynb"):
        return output
    return MARKDOWN.sub(r'href="\1.html', MERMAID.sub("", output))
