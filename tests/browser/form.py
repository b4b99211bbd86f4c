"""The pages of Airflow's connections, as whoever sits before them uses them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpo_multicluster.hooks.connection_form import CLUSTER_KINDS, FORM_NAME, KIND_FIELD, connection_type

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

_FIELDS = connection_type()["conn-fields"]
_FIRST_SECTION = "Extra Fields"


class ConnectionForm:
    """The form in which a connection is added or edited."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._dialog = page.get_by_role("dialog")
        self._open = ""

    def name(self, conn_id: str) -> None:
        """Gives a new connection its id, and the type whose form this is."""
        self._dialog.get_by_label("Connection ID").fill(conn_id)
        self._choose(self._dialog.get_by_role("combobox"), FORM_NAME)
        # Airflow 3.3.2 tests no connection without one.
        self._dialog.locator("input[name=port]").fill("443")

    def fill(self, fields: Mapping[str, Any]) -> None:
        """Fills in fields of the extra, section by section."""
        for name, value in fields.items():
            self._show(name)
            if name == KIND_FIELD:
                self._choose(self._dialog.locator(f"#element_{name}").get_by_role("combobox"), CLUSTER_KINDS[value])
            else:
                self._control(name).fill(value)

    def read(self, fields: Mapping[str, Any]) -> dict[str, str]:
        """What fields of the extra show."""
        return {name: self._read(name) for name in fields}

    def picture(self, path: Path, name: str, *, whole: bool = False) -> None:
        """A picture of the section that a field is in, or of the whole form with that section open."""
        self._show(name)
        section = self._dialog.locator("[data-scope=accordion][data-part=item]").filter(
            has=self._page.locator(f"#element_{name}")
        )
        self._page.evaluate("document.activeElement.blur()")
        (self._dialog if whole else section).screenshot(path=path, animations="disabled", caret="hide")

    def save(self) -> None:
        """Saves, and waits until that is done."""
        self._dialog.get_by_role("button", name="Save").click()
        self._dialog.wait_for(state="hidden")

    def close(self) -> None:
        """Leaves it without saving."""
        self._dialog.get_by_role("button", name="Close").click()
        self._dialog.wait_for(state="hidden")

    def _show(self, name: str) -> None:
        section = _FIELDS[name]["schema"].get("section", _FIRST_SECTION)
        opener = self._dialog.get_by_role("button", name=section, exact=True)
        if opener.get_attribute("aria-expanded") != "true":
            opener.click()
        self._control(name).wait_for(state="visible")

    def _control(self, name: str) -> Locator:
        return self._dialog.locator(f"#element_{name}")

    def _read(self, name: str) -> str:
        self._show(name)
        control = self._control(name)
        return str(control.inner_text() if name == KIND_FIELD else control.input_value())

    def _choose(self, box: Locator, option: str) -> None:
        box.fill(option)
        self._page.get_by_role("option", name=option, exact=True).click()


class Connections:
    """The list of connections.

    Args:
        page: of the browser.
        url: of Airflow.
    """

    def __init__(self, page: Page, url: str) -> None:
        self._page = page
        self._url = url

    def open(self) -> None:
        """Opens the list anew."""
        self._page.goto(f"{self._url}/connections")

    def add(self, conn_id: str) -> ConnectionForm:
        """Opens the form for a new connection."""
        self._page.get_by_role("button", name="Add Connection").click()
        form = ConnectionForm(self._page)
        form.name(conn_id)
        return form

    def edit(self, conn_id: str) -> ConnectionForm:
        """Opens the form of a connection that is there."""
        self._row(conn_id).get_by_role("button", name="Edit Connection").click()
        return ConnectionForm(self._page)

    def test(self, conn_id: str, picture: Path | None = None) -> tuple[bool, str]:
        """Presses Test; gives whether it went well, and what is shown then."""
        row = self._row(conn_id)
        with self._page.expect_response(re.compile(r"/api/v2/connections/test$")) as asked:
            row.get_by_role("button", name="Test Connection").click()
        answer = asked.value.json()
        shown = self._page.locator("[data-scope=toast][data-part=root]").filter(has_text=answer.get("message", ""))
        shown.first.wait_for(state="visible")
        if picture is not None:
            whole = self._page.viewport_size
            assert whole is not None
            self._page.set_viewport_size({"width": 900, "height": 800})
            self._page.screenshot(path=picture, animations="disabled")
            self._page.set_viewport_size(whole)
        return bool(answer["status"]), shown.first.inner_text()

    def _row(self, conn_id: str) -> Locator:
        cell = self._page.get_by_role("cell", name=conn_id, exact=True)
        return self._page.get_by_role("row").filter(has=cell)
