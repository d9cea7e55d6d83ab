"""What the element is called towards its peers."""

import resource

import pytest

from engine.sip.transports import local_address

pytestmark = pytest.mark.enable_socket


def test_an_address_is_asked_for_without_a_descriptor_to_spare() -> None:
    """E-03: a process that has opened all it may goes on: what cannot be asked is empty, and no call ends there."""
    assert local_address("127.0.0.1") == "127.0.0.1"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        found = local_address("127.0.0.1"), local_address("::1")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == ("", "")
