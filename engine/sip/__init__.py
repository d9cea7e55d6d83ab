"""The SIP element. Its modules are taken in their compiled form where one was made of exactly this source."""

from engine.native import with_compiled

__path__ = with_compiled(__path__)
