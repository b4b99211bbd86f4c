"""What is started and stopped, by hand or by a `with` block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class Startable(ABC):
    """Runs from `start` to `stop`, or while in its `with` block."""

    @abstractmethod
    def start(self) -> Self:
        """Starts it; gives it back."""

    @abstractmethod
    def stop(self) -> None:
        """Stops it. Harmless when it is not running."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
