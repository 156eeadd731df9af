"""For mkdocstrings: `Example:` in a docstring is a section with code, as `Examples:` is."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object


class ExamplesSection(Extension):
    """Call the section what the parser of Google's style knows it as."""

    def on_object(self, *, obj: Object, **_keywords: Any) -> None:
        """Rename it in one object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.M)
