"""One node a data folder, one owner of the SIP address."""

import os
import socket
from pathlib import Path

import pytest

from engine import data_folder
from engine.data_folder import AlreadyRunning
from engine.edge.owner import Owner
from tests.ports import free_port


def test_a_folder_is_taken_once_and_free_again_when_its_holder_is_gone(tmp_path: Path) -> None:
    assert data_folder.holder(tmp_path / "data") is None
    first = data_folder.take(tmp_path / "data")
    assert data_folder.holder(tmp_path / "data") == os.getpid()
    with pytest.raises(AlreadyRunning, match=str(os.getpid())):
        data_folder.take(tmp_path / "data")
    os.close(first)
    assert data_folder.holder(tmp_path / "data") is None
    os.close(data_folder.take(tmp_path / "data"))


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_an_address_that_anybody_else_holds_is_refused(tmp_path: Path, kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", free_port()))  # it is free again below: nobody else is given it
        if kind is socket.SOCK_STREAM:
            other.listen()
        address = (kind, *other.getsockname())
        with pytest.raises(OSError, match="in use by another program"):
            Owner(tmp_path).refuse_strangers([address])
    Owner(tmp_path).refuse_strangers([address])


def test_a_younger_claim_is_seen_by_the_elder_alone(tmp_path: Path) -> None:
    elder, younger = Owner(tmp_path), Owner(tmp_path)
    assert not elder.is_taken_over()
    elder.claim()
    assert not elder.is_taken_over()
    younger.claim()
    assert elder.is_taken_over()
    assert not younger.is_taken_over()
