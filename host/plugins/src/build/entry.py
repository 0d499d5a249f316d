"""Calls the plugin, and logs what it does not catch."""

import plugin
from componentize_py_types import Err
from wit_world.imports import log


def guarded(method):
    def call(self, *arguments):
        try:
            return method(self, *arguments)
        except Err:
            # An error of the contract is an answer.
            raise
        except BaseException as error:
            frame = error.__traceback__
            while frame.tb_next is not None:
                frame = frame.tb_next
            file = frame.tb_frame.f_code.co_filename
            log.write(log.Level.ERROR, f"{type(error).__name__}: {error} ({file}, line {frame.tb_lineno})")
            raise

    return call


def wrapped(name):
    base = getattr(plugin, name)
    methods = {key: guarded(value) for key, value in vars(base).items() if callable(value) and not key.startswith("_")}
    return type(name, (base,), methods)


for name in ("Tool", "Scoring", "Filtering"):
    if hasattr(plugin, name):
        globals()[name] = wrapped(name)
