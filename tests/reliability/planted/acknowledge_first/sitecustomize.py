"""A planted bug for the control: Stripe is answered first, and its event is stored a moment later."""

from __future__ import annotations

import sys
import threading
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_WAIT = 0.3


class _Planter(MetaPathFinder):
    """Changes one function of the relay right after its module was loaded."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "smi_desktop.services.webhooks":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_and_plant(module: ModuleType) -> None:
            load(module)
            store = module.receive_stripe_event

            def receive_stripe_event(*arguments: Any) -> Any:
                threading.Timer(_WAIT, store, arguments).start()
                return module.Receipt(None)

            module.receive_stripe_event = receive_stripe_event  # type: ignore[attr-defined]

        spec.loader.exec_module = load_and_plant  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Planter())
