"""verl's trainers with a method of allmodes: `trainer.v1.trainer_mode=allmodes_sync +allmodes.method=mara`.

This is verl's plugin. verl imports it in each of its processes, in the middle of `import verl`: by the entry
point `verl.plugins` of an installed allmodes, or by VERL_USE_EXTERNAL_MODULES=allmodes.integrations.verl. So
it imports nothing of weight: it waits for verl to import its trainers, and adds ours then.
"""

import functools
import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, final


def _add_trainers(v1: ModuleType) -> None:
    importlib.import_module("allmodes.integrations.verl.trainers").register(v1)


def _check_options(config_module: ModuleType) -> None:
    """Verl's check of its options also checks those of allmodes, before Ray starts.

    It runs for every trainer, so that none leaves them unused without a word.
    """
    validate = getattr(config_module, "validate_config", None)
    if validate is None:  # the trainers of ours check them, too
        return

    @functools.wraps(validate)
    def validate_config(config: Any, *args: Any, **kwargs: Any) -> Any:
        if config.get("allmodes") is not None or "allmodes_" in str(config.trainer.get("v1")):
            importlib.import_module("allmodes.integrations.verl.trainers").check_options(config)
        return validate(config, *args, **kwargs)

    setattr(config_module, "validate_config", validate_config)  # noqa: B010  # for type checkers


_AFTER: dict[str, Callable[[ModuleType], None]] = {
    "verl.trainer.ppo.v1": _add_trainers,
    "verl.utils.config": _check_options,
}
"""The action after a module of verl is imported."""


@final
class _AfterImport(MetaPathFinder):
    """An import hook that finds no module itself, but reports when verl's modules are imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _AFTER:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _AFTER[fullname](module)

        spec.loader.exec_module = exec_module
        return spec


for _name, _act in _AFTER.items():
    if _name in sys.modules:
        _act(sys.modules[_name])
if not all(_name in sys.modules for _name in _AFTER):
    sys.meta_path.insert(0, _AfterImport())
