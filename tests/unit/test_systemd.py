"""`callpoint snippet systemd`: units that systemd reads, with this installation's own paths and no secret."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from engine.config import Admin, Config, Core, Provisioning, Sip
from engine.systemd import TEMPORARY, UNITS, tell, units

FOLDER = Path("/srv/call point")


def written(config: Config, *, environ: dict[str, str] | None = None, file: Path | None = None) -> dict[str, str]:
    program = FOLDER / ".venv/bin/callpoint"
    return units(config, file, program=program, folder=FOLDER, environ=environ or {})


def on_sqlite() -> Config:
    return Config(core=Core(data_dir=Path("/var/lib/callpoint")))


def test_the_units_start_the_command_of_this_folder_with_its_configuration() -> None:
    """Paths with a blank are one word; the data folder alone is written to."""
    unit = written(on_sqlite(), file=Path("/etc/callpoint.toml"))["callpoint.service"]
    assert 'ExecStart="/srv/call point/.venv/bin/callpoint" run --config /etc/callpoint.toml\n' in unit
    assert "WorkingDirectory=/srv/call point\n" in unit
    assert "ReadWritePaths=/var/lib/callpoint\n" in unit
    assert "CapabilityBoundingSet=\n" in unit
    assert "ProtectHome=yes\n" in unit
    assert "\nPrivateTmp=yes\n" in unit


def test_nothing_but_the_main_process_is_ended_and_it_is_never_given_up() -> None:
    """A SIP process without its main process carries 911 until the next one has taken over."""
    unit = written(on_sqlite())["callpoint.service"]
    for line in ("KillMode=process", "OOMPolicy=continue", "Restart=always", "StartLimitIntervalSec=0", "Type=notify"):
        assert f"\n{line}\n" in unit


def test_settings_of_the_environment_stand_in_the_units_and_secrets_do_not() -> None:
    """A unit can be read by everybody; `%` and quotes mean what they meant in the environment."""
    environ = {
        "CALLPOINT_SIP__UDP": "10.0.0.5:5060",
        "CALLPOINT_MAIL__PASSWORD": "hush",
        "CALLPOINT_CORE__DATABASE_URL": "postgresql+asyncpg://u:hush@h/d",
        "CALLPOINT_MAIL__PASSWORD_FILE": "/run/my mail%1",
        "CALLPOINT_STARTED_AS": "python3 run.py",
        "CALLPOINT_CONFIG": "/etc/x",
        "HOME": "/root",
    }
    for name, text in written(on_sqlite(), environ=environ).items():
        assert "hush" not in text
        if name.endswith(".service"):
            found = [line for line in text.splitlines() if line.startswith("Environment=")]
            assert found == [
                'Environment="CALLPOINT_MAIL__PASSWORD_FILE=/run/my mail%%1"',
                "Environment=CALLPOINT_SIP__UDP=10.0.0.5:5060",
            ]


def test_a_low_port_a_home_and_postgresql_are_provided_for() -> None:
    """The one capability that a port below 1024 needs; a home that can be read; a database that is dumped apart."""
    config = Config(
        core=Core(data_dir=Path("/home/pbx/data"), database_url="postgresql+asyncpg://callpoint@db/site"),
        admin=Admin(listen="0.0.0.0:443"),
        provisioning=Provisioning(listen="0.0.0.0:80"),
        sip=Sip(udp="192.0.2.1:5060, [2001:db8::1]:5060"),
    )
    made = written(config)
    assert (
        "# ports below 1024: 0.0.0.0:80, 0.0.0.0:443\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n"
        in made["callpoint.service"]
    )
    assert "ProtectHome=read-only\n" in made["callpoint.service"]
    assert "After=network-online.target postgresql.service\n" in made["callpoint.service"]
    assert "pg_dump --format=custom" in made["callpoint-backup.service"]
    assert "pg_dump" not in written(on_sqlite())["callpoint-backup.service"]


@pytest.mark.parametrize("temporary", TEMPORARY)
def test_a_unit_of_a_temporary_folder_can_start_and_says_where_to_move(temporary: Path) -> None:
    """PrivateTmp would hide the very program from the service."""
    place = temporary / "try"
    made = units(on_sqlite(), None, program=place / ".venv/bin/callpoint", folder=place, environ={})
    assert "\nPrivateTmp=yes" not in made["callpoint.service"]
    assert "Move it to /opt." in made["callpoint.service"]


@pytest.mark.enable_socket
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_itself_finds_no_fault_in_them(tmp_path: Path) -> None:
    """With a command that is there, as `verify` looks."""
    program = tmp_path / "callpoint"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    made = units(on_sqlite(), None, program=program, folder=tmp_path, environ={"CALLPOINT_SIP__UDP": "10.0.0.5:5060"})
    for name, text in made.items():
        (tmp_path / name).write_text(text)
    words = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in UNITS)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if str(tmp_path) in line]) == (0, [])


@pytest.mark.enable_socket
def test_who_waits_for_a_start_is_told_and_nobody_else(tmp_path: Path) -> None:
    """sd_notify(3): a datagram to the named socket; without one, or with nobody behind it, nothing happens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        tell("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert listening.recv(100) == b"READY=1"
    tell("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    tell("READY=1", {})
