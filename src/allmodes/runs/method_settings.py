"""`[methods.NAME]` of a recipe: the settings of each method, as the method itself declares them.

Nothing here knows a method by name: the tables are made of `METHODS`.
"""

from collections.abc import Collection, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, create_model

from allmodes.errors import InputError, shown
from allmodes.methods import METHODS, Method, make_method, method_names, recipe_fields
from allmodes.objectives import BatchQuantile
from allmodes.objectives.thresholds import Threshold
from allmodes.runs.config import MOST, Config, Probability

_NONE = "none"  # for None in recipes, since TOML has no null


def _known(name: str) -> str:
    try:
        method_names(name)
    except InputError as error:
        raise ValueError(str(error).removeprefix("method must be ").partition("; got")[0]) from error
    return name


MethodName = Annotated[str, AfterValidator(_known)]
"""The name of a method, or of several in order: "mara+entropy"."""


class BatchQuantileThreshold(Config):
    """τ is this quantile of the batch's rewards."""

    batch_quantile: Probability
    """τ is this quantile of the rewards of each batch; 0.9: the best tenth is good."""


class _Table(Config):
    """Parent of the tables made here, without the search for docstrings of attributes, which they lack."""

    model_config = ConfigDict(use_attribute_docstrings=False)


class MethodTables(_Table):
    """The settings of each method, whether a run uses it or not."""

    def make(self, name: str) -> Method:
        """The method of a name such as "mara" or "mara+entropy", with its settings."""
        return make_method(name, {part: self._settings(part) for part in method_names(name)})

    def _settings(self, name: str) -> dict[str, Any]:
        types = get_type_hints(METHODS[name])
        return {key: _as_setting(value, types[key]) for key, value in getattr(self, name)}


def method_tables(
    *, within: Mapping[str, tuple[float, float]] | None = None, **defaults: Any
) -> type[MethodTables]:
    """A model with one table per method. defaults: replace the methods' own defaults, by name of the setting.

    A default applies to every method with a setting of this name, such as `threshold=0.8`. If a method's own
    default is None, recipes write "none", since a missing key means the default here.
    within: narrower limits of numbers, by name in the same way.
    """
    tables: dict[str, Any] = {}
    for name, method in METHODS.items():
        table = _table(method, defaults, within or {})
        tables[name] = (table, Field(default=table(), description=f'For method "{name}": {method.label}.'))
    return create_model("MethodTables", __base__=MethodTables, **tables)


def move_old_tables(values: object, *, shared: Collection[str] = ()) -> object:
    """Move method settings of older recipes to `[methods.NAME]`.

    `[mara]` becomes `[methods.mara]`, and `entropy = 0.01` the only setting of `[methods.entropy]`. shared:
    tables with other keys, which stay in place. A value that is not a table stays and is refused later.
    Raises ValueError for a setting that is given in both places.
    """
    if not isinstance(values, dict) or not isinstance(values.get("methods", {}), dict):
        return values
    kept, methods = dict(values), dict(values.get("methods", {}))
    for name, method in METHODS.items():
        if name not in kept:
            continue
        old, known = kept.pop(name), list(recipe_fields(method))
        if not isinstance(old, dict) and len(known) == 1:
            old = {known[0]: old}
        table = methods.get(name, {})
        if not isinstance(old, dict) or not isinstance(table, dict):
            kept[name] = old
            continue
        twice = next((key for key in old if key in table), None)
        if twice is not None:
            raise ValueError(
                f"only one of `{name}.{twice}` and its new name `methods.{name}.{twice}`; both are given"
            )
        rest = {key: value for key, value in old.items() if name in shared and key not in known}
        methods[name] = {**{key: value for key, value in old.items() if key not in rest}, **table}
        if rest:
            kept[name] = rest
    return {**kept, "methods": methods} if methods else kept


def _table(
    method: type[Method], defaults: Mapping[str, Any], within: Mapping[str, tuple[float, float]]
) -> type[Config]:
    types = get_type_hints(method)
    fields: dict[str, Any] = {}
    for name, field in recipe_fields(method).items():
        default = defaults.get(name, field.default)
        bounds = field.metadata["bounds"]
        limits: dict[str, Any] = {
            key: bounds[bound]
            for key, bound in (("ge", "at_least"), ("gt", "above"), ("le", "at_most"))
            if bounds[bound] is not None
        }
        if name in within:
            limits["ge"], limits["le"] = within[name]
        kind = _kind(types[name], limits)
        if field.default is None and default is not None:
            kind = kind | Literal["none"]
        fields[name] = (kind, Field(default=default, description=field.metadata["doc"]))
    doc = (method.__doc__ or "").partition("\n\n")[0]
    return create_model(f"{method.__name__}Settings", __base__=_Table, __doc__=doc, **fields)


def _as_setting(value: Any, kind: Any) -> Any:
    """A recipe's value for the method: a quantile object for a quantile, and None for "none" if allowed."""
    if isinstance(value, BatchQuantileThreshold):
        return BatchQuantile(value.batch_quantile)
    return None if value == _NONE and NoneType in get_args(kind) else value


def _kind(kind: Any, limits: dict[str, Any]) -> Any:
    """The type of a setting in recipes: strict numbers, and a threshold may be a quantile."""
    if get_origin(kind) in (Union, UnionType):
        parts = get_args(kind)
        if Threshold in parts:
            return _kind(float, limits) | BatchQuantileThreshold
        return Union[tuple(_kind(part, limits) for part in parts)]  # noqa: UP007  # of a number known only here
    if get_origin(kind) is Literal or kind in (str, bool, type(None)):
        return kind
    if kind is int:
        return Annotated[int, Field(strict=True, **_within(limits, le=MOST))]
    if kind is float:
        return Annotated[float, Field(strict=True, **_within(limits, ge=-1e30, le=1e30))]
    raise TypeError(f"no recipe can hold a setting of type {shown(kind)}")


def _within(limits: dict[str, Any], **widest: float) -> dict[str, Any]:
    """The limits of a setting, or, if it has none, limits that catch typing errors."""
    return {**widest, **limits}
