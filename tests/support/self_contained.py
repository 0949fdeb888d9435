"""What holds for every page of kvsim: it loads nothing and runs one script, which it names."""

from __future__ import annotations

import base64
import hashlib
import re

from support.page_reader import Reader

LOADING = ("src", "href", "xlink:href", "srcset", "data", "action", "formaction", "poster")
OURS = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def check_self_contained(html: str) -> None:
    """Fails where the page asks for anything, or could run a script that is not ours."""
    reader = Reader(html)
    for tag, attrs in reader.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
        for name in LOADING:
            assert attrs.get(name, "#").startswith(("#", "data:image/png;")), (tag, attrs)
        assert not any(name.startswith("on") for name in attrs), (tag, attrs)
    assert "@import" not in html
    assert not re.search(r"url\((?!#|data:)", html)
    check_script(html, reader)


def check_script(html: str, reader: Reader) -> None:
    """One script, without attributes, the one that the policy names by its digest."""
    assert reader.attributes("script") == [{}]
    digest = hashlib.sha256(OURS.findall(html)[0].encode()).digest()
    policies = [one["content"] for one in reader.attributes("meta") if "http-equiv" in one]
    assert len(policies) == 1
    rules = dict(part.strip().split(" ", 1) for part in policies[0].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert rules["img-src"] == "data:"
