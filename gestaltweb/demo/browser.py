"""A person at a browser without script: opens pages, fills in their forms, follows what comes back."""

from __future__ import annotations

import html.parser
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2


class StoryFailed(Exception):
    """A page was not as the story expects; says which page and what was missing."""


@dataclass
class PageForm:
    """One form of a page: where it goes, and what its fields hold before anybody types."""

    action: str
    method: str
    fields: dict[str, str | list[str]] = field(default_factory=dict)


class _FormReader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[PageForm] = []
        self._open: PageForm | None = None
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._open = PageForm(values.get("action", ""), values.get("method", "get").lower())
            self.forms.append(self._open)
        elif self._open is not None:
            self._field(tag, values)

    def _field(self, tag: str, values: dict[str, str]) -> None:
        assert self._open is not None
        if tag == "button" and "formaction" in values:  # a second way to send the same fields
            self.forms.append(PageForm(values["formaction"], self._open.method, self._open.fields))
        name, kind = values.get("name", ""), values.get("type", "text")
        if tag == "input" and name and kind not in ("checkbox", "radio", "file", "submit"):
            self._open.fields[name] = values.get("value", "")
        elif tag == "input" and name and "checked" in values:
            before = self._open.fields.get(name, [])
            self._open.fields[name] = [*before, values.get("value", "on")]  # several boxes may share a name
        elif tag == "select":
            self._select = name
        elif (
            tag == "option"
            and self._select
            and ("selected" in values or self._select not in self._open.fields)
        ):
            self._open.fields[self._select] = values.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None
        elif tag == "select":
            self._select = ""


class Visitor:
    """One person with their own cookies. `text` and `path` are those of the page that is open."""

    def __init__(self, address: str) -> None:
        self._client = httpx2.Client(base_url=address, follow_redirects=True, timeout=60)
        self._page: httpx2.Response | None = None

    @property
    def text(self) -> str:
        assert self._page is not None
        return self._page.text

    @property
    def path(self) -> str:
        assert self._page is not None
        return urlsplit(str(self._page.url)).path

    def status(self, path: str) -> int:
        """The status code of a page or picture, without opening it."""
        return int(self._client.get(path).status_code)

    def read(self, path: str) -> str:
        """The text of a page or download, without opening it."""
        return self._client.get(path).text

    def open(self, path: str) -> Visitor:
        """Open a page; StoryFailed unless it is there."""
        return self._took(self._client.get(path))

    def submit(self, action: str, *, files: Any = None, **values: Any) -> Visitor:
        """Fill in and send the open page's form whose action ends with `action` ("" for the page itself)."""
        form = self._form(action)
        target = urljoin(self.path, form.action) if form.action else self.path
        typed = {name: value if isinstance(value, list) else str(value) for name, value in values.items()}
        data = form.fields | typed
        headers = {"Referer": str(self._client.base_url)}
        return self._took(self._client.post(target, data=data, files=files, headers=headers))

    def offers(self, action: str) -> bool:
        """Whether the open page has a form whose action ends with `action` ("" for the page itself)."""
        return self._found_form(action) is not None

    def _form(self, action: str) -> PageForm:
        form = self._found_form(action)
        if form is None:
            raise StoryFailed(f"The page {self.path} has no form for {action or 'itself'}.")
        return form

    def _found_form(self, action: str) -> PageForm | None:
        reader = _FormReader()
        reader.feed(self.text)
        for form in reader.forms:
            goes_to = urlsplit(form.action).path
            if form.method == "post" and (goes_to.endswith(action) if action else goes_to in ("", self.path)):
                return form
        return None

    def _took(self, page: httpx2.Response) -> Visitor:
        self._page = page
        if page.status_code >= 400:
            raise StoryFailed(f"{self.path} answered {page.status_code}.")
        return self

    def close(self) -> None:
        self._client.close()
