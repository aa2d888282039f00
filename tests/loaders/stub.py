"""Stand-ins for whole packages: names can be imported from them, but nothing depends on them.

The loaders import vLLM, torch and transformers for base classes, annotations and code that runs on
a GPU only. A stand-in allows just that. Whoever evaluates one (`if stand_in:`, compares, iterates)
or calls one after import gets a TypeError, so nothing that the harness reports can rest on a
stand-in.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class _Nothing(type):
    """The type of all stand-ins: any attribute is another one; a call is that of a decorator."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = _nothing(name, f"{cls.__module__}.{cls.__qualname__}")
        setattr(cls, name, made)
        return made

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if "stand_in" not in cls.__dict__:  # a class of the wheel that has a stand-in as its base
            return super().__call__(*args, **kwargs)
        _only_while_importing(f"{cls.__module__}.{cls.__qualname__}")
        if len(args) == 1 and not kwargs and isinstance(args[0], types.FunctionType | type):
            return args[0]
        return _Result(f"{cls.__module__}.{cls.__qualname__}()")

    def __getitem__(cls, item: Any) -> Any:
        return cls

    def __bool__(cls) -> bool:
        msg = f"{cls.__module__}.{cls.__qualname__} is a stand-in without a value"
        raise TypeError(msg)

    def __iter__(cls) -> Any:  # else Python takes __getitem__ for a sequence without an end
        msg = f"{cls.__module__}.{cls.__qualname__} is a stand-in without items"
        raise TypeError(msg)


def _only_while_importing(name: str) -> None:
    """Refuse calls, except while a module is executed: its decorators and constants are harmless.

    A call that gave anything would be a success to `try: ... except`: 0.30 takes any model for a
    diffusion model when diffusers can read its configuration.
    """
    frame = sys._getframe(2)
    caller = frame.f_code.co_qualname
    while frame:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return
        if frame.f_back is None:
            break
        frame = frame.f_back
    msg = f"{name} is a stand-in and cannot be called (by {caller})"
    raise TypeError(msg)


class _Result:
    """What a call of a stand-in gives; only its use as a decorator has an effect (none)."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        _only_while_importing(self._name)
        return args[0] if args else self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Result(f"{self._name}.{name}")

    def __bool__(self) -> bool:
        msg = f"{self._name} is a stand-in without a value"
        raise TypeError(msg)


def _nothing(name: str, module: str) -> _Nothing:
    # __init_subclass__: msgspec.Struct and others take keywords in the class statement
    body = {"__module__": module, "stand_in": True, "__init_subclass__": classmethod(lambda cls, **kwargs: None)}
    return _Nothing(name, (), body)


class _Module(types.ModuleType):
    """A module of a stand-in package."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = sys.modules.get(f"{self.__name__}.{name}") or _nothing(name, self.__name__)
        setattr(self, name, made)
        return made


class Packages(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds every module below the top-level packages `names`, also when the real one is installed.

    A name with dots is that one module.
    """

    def __init__(self, names: Sequence[str], values: Mapping[str, Mapping[str, Any]]) -> None:
        """`values`: module to attributes that the loaders do use, which therefore need a value."""
        self._names = frozenset(names)
        self._values = values

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._names and fullname.partition(".")[0] not in self._names:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__path__ = []
        vars(module).update(self._values.get(module.__name__, {}))


def is_stand_in(module: types.ModuleType) -> bool:
    """Whether a module was made here."""
    return isinstance(module, _Module)


class Bare(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes packages of the wheel importable without their `__init__`; their modules are real."""

    def __init__(self, packages: Sequence[str], children_of: Sequence[str], values: Mapping[str, Any]) -> None:
        """`children_of`: packages whose sub-packages are bare, too; `values` as in Packages."""
        self._packages = frozenset(packages) | frozenset(children_of)
        self._children_of = frozenset(children_of)
        self._values = values

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        parent, _, child = fullname.rpartition(".")
        if fullname not in self._packages and parent not in self._children_of:
            return None
        folders = [Path(entry) / child for entry in path or sys.path]
        folder = next((folder for folder in folders if folder.is_dir()), None)
        if folder is None:
            return None
        spec = importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        vars(module).update(self._values.get(module.__name__, {}))
