"""The configuration: every fault at once, each with its line and what to write instead."""

import json
from pathlib import Path

import pytest

from engine.config import load, parse_listen, parse_listens
from engine.errors import ConfigFault


def test_an_empty_configuration_starts_a_node() -> None:
    config = load(None, {})
    assert config.provisioning.listen == "0.0.0.0:8080"
    assert config.admin.listen == "127.0.0.1:8081"
    assert config.database_url.startswith("sqlite+aiosqlite:////")
    assert config.key_file.name == "keys.toml"


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "callpoint.toml"
    file.write_text('[sip]\nudp = "127.0.0.1:5070"\ntcp = "127.0.0.1:5071"\n[mail]\nfrom = "noc@example.com"\n')
    config = load(file, {"CALLPOINT_SIP__UDP": "127.0.0.1:5080"})
    assert (config.sip.udp, config.sip.tcp, config.mail.sender) == (
        "127.0.0.1:5080",
        "127.0.0.1:5071",
        "noc@example.com",
    )


def test_all_faults_are_listed_with_line_and_fix(tmp_path: Path) -> None:
    file = tmp_path / "callpoint.toml"
    file.write_text('[sip]\nudp = "nowhere"\nfirst_response_s = -1\n\n[mail]\nport = 99999\nsecurty = "tls"\n')
    with pytest.raises(ConfigFault) as caught:
        load(file, {"CALLPOINT_SIPP__UDP": "x"})
    faults = "\n".join(caught.value.faults)
    assert "line 2: sip.udp: expected host:port such as 0.0.0.0:5060, got 'nowhere'" in faults
    assert "line 3: sip.first_response_s" in faults
    assert "line 6: mail.port" in faults
    assert "line 7: mail.securty: no such key" in faults
    assert "CALLPOINT_SIPP__UDP: no such key" in faults
    assert len(caught.value.faults) == 5


@pytest.mark.parametrize("name", ["CALLPOINT_NATIVE", "CALLPOINT_STARTED_AS", "CALLPOINT_CONFIG", "CALLPOINT_CASES"])
def test_what_the_environment_says_to_others_of_ours_is_no_key(name):
    """E-18: `CALLPOINT_NATIVE=off` runs the Python source, and `run.py` says how it was started."""
    assert load(None, {name: "off"}) == load(None, {})


def test_a_file_that_is_no_toml_or_absent_is_one_clear_fault(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("[sip\n")
    for path in (broken, tmp_path / "absent.toml"):
        with pytest.raises(ConfigFault) as caught:
            load(path, {})
        assert len(caught.value.faults) == 1


def test_a_password_never_stands_in_a_fault_or_a_repr(tmp_path: Path) -> None:
    """P-23: the mail password is no log's business."""
    secret = tmp_path / "password"
    secret.write_text("correct horse\n")
    config = load(None, {"CALLPOINT_MAIL__PASSWORD_FILE": str(secret)})
    assert config.mail.password == "correct horse"
    assert "correct horse" not in repr(config)
    secret.write_text("postgresql+asyncpg://callpoint:hush@db/callpoint\n")
    assert load(None, {"CALLPOINT_CORE__DATABASE_URL_FILE": str(secret)}).database_url.endswith("@db/callpoint")
    file = tmp_path / "callpoint.toml"
    file.write_text("[mail]\npassword = 12345678\n")
    with pytest.raises(ConfigFault) as caught:
        load(file, {})
    assert "12345678" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("0.0.0.0:5060", "0.0.0.0", 5060), ("[::1]:0", "::1", 0), ("localhost:8080", "localhost", 8080)],
)
def test_a_listen_address_is_host_and_port(text: str, host: str, port: int) -> None:
    listen = parse_listen(text)
    assert (listen.host, listen.port) == (host, port)
    assert str(listen) == text


@pytest.mark.parametrize("text", ["5060", "host:", "host:70000", "::1:5060", "a b:1"])
def test_what_is_no_listen_address_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="expected host:port"):
        parse_listen(text)


def test_tls_keys_go_together_and_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigFault) as caught:
        load(
            None,
            {
                "CALLPOINT_ADMIN__TLS_CERT": str(tmp_path / "absent.pem"),
                "CALLPOINT_SIP__UDP": "",
                "CALLPOINT_SIP__TCP": "",
            },
        )
    faults = "\n".join(caught.value.faults)
    assert "go together" in faults
    assert "is no file" in faults
    assert "no PBX could reach 911" in faults


@pytest.mark.parametrize(
    ("text", "here"), [("0.0.0.0:5060", "127.0.0.1:5060"), ("[::]:8081", "[::1]:8081"), ("192.0.2.7:1", "192.0.2.7:1")]
)
def test_a_wildcard_is_reached_from_here_by_the_loopback(text: str, here: str) -> None:
    assert str(parse_listen(text).from_here) == here


def test_one_address_of_each_family_may_be_listened_on() -> None:
    """E-18: two of one family would leave it open which of them answers."""
    config = load(None, {"CALLPOINT_SIP__UDP": "192.0.2.1:5060, [2001:db8::1]:5060"})
    assert [str(listen) for listen in parse_listens(config.sip.udp)] == ["192.0.2.1:5060", "[2001:db8::1]:5060"]
    with pytest.raises(ConfigFault) as refused:
        load(None, {"CALLPOINT_SIP__TCP": "192.0.2.1:5060,192.0.2.2:5060"})
    assert "at most one IPv4 and one IPv6 address" in str(refused.value)


def test_tls_needs_a_certificate_and_files_that_exist(tmp_path: Path) -> None:
    """E-18: none is made up; all faults at once."""
    with pytest.raises(ConfigFault) as refused:
        load(None, {"CALLPOINT_SIP__TLS": "0.0.0.0:5061", "CALLPOINT_SIP__TLS_CA": str(tmp_path / "none.pem")})
    assert "none is made up" in str(refused.value)
    assert "[sip] tls_ca:" in str(refused.value)
    only_tls = {"CALLPOINT_SIP__UDP": "", "CALLPOINT_SIP__TCP": "", "CALLPOINT_SIP__TLS": ""}
    with pytest.raises(ConfigFault, match="udp, tcp and tls are all empty"):
        load(None, only_tls)


def test_location_servers_are_hosts_with_or_without_a_port() -> None:
    """E-05: who may be asked for a location; anything else is refused in words."""
    good = {"CALLPOINT_SIP__LOCATION_HOSTS": '["LIS.example.com", "10.0.0.5:8080", "[fd00::5]:8443"]'}
    assert load(None, good).sip.location_hosts == ("lis.example.com", "10.0.0.5:8080", "[fd00::5]:8443")
    for bad in ("https://lis.example.com", "lis.example.com/path", "a b", ""):
        with pytest.raises(ConfigFault, match="expected host or host:port"):
            load(None, {"CALLPOINT_SIP__LOCATION_HOSTS": json.dumps([bad])})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SIP__ADVERTISE", "192.0.2.1:abc"),  # the SIP process would not start
        ("SIP__ADVERTISE", "sbc example"),  # would stand in every Via
        ("SIP__ADVERTISE", "192.0.2.1:70000"),
        ("SIP__ADVERTISE", ","),
        ("ADMIN__LISTEN", ""),
        ("PROVISIONING__LISTEN", ""),
        ("PROVISIONING__PUBLIC_URL", "phones.example.net"),
        ("ADMIN__PUBLIC_URL", "https://callpoint.example.net:port"),
        ("E911__LOST_URL", "https://lost.example.net:99999/lost"),
        ("E911__LOST_URL", "https://[2001:db8::1/lost"),
        ("SIP__LOCATION_HOSTS", '["lis.example.net:99999"]'),
        ("SIP__LOCATION_HOSTS", '["lis.example.net"'),
        ("SIP", "anything"),
    ],
)
def test_what_would_only_fail_once_the_node_runs_is_refused_in_words(key: str, value: str) -> None:
    """A good `check-config` is what an operator restarts a 911 node on."""
    with pytest.raises(ConfigFault) as caught:
        load(None, {f"CALLPOINT_{key}": value})
    assert len(caught.value.faults) == 1
    assert f"CALLPOINT_{key}" in caught.value.faults[0]


@pytest.mark.parametrize("value", ["192.0.2.1", "sbc.example", "192.0.2.1:5070, [2001:db8::5]:5060", "2001:db8::5", ""])
def test_what_may_be_advertised(value: str) -> None:
    assert load(None, {"CALLPOINT_SIP__ADVERTISE": value}).sip.advertise == value


def test_a_list_in_the_environment_has_commas_between_or_is_json() -> None:
    """docs/configuration.md: every key is also an environment variable."""
    plain = load(None, {"CALLPOINT_SIP__LOCATION_HOSTS": "lis.example.net, lis2.example.net:8443"})
    assert plain.sip.location_hosts == ("lis.example.net", "lis2.example.net:8443")
    proxies = load(None, {"CALLPOINT_PROVISIONING__TRUSTED_PROXIES": "10.0.0.0/8"}).provisioning.trusted_proxies
    assert [str(each) for each in proxies] == ["10.0.0.0/8"]
    assert load(None, {"CALLPOINT_SIP__LOCATION_HOSTS": '["lis.example.net"]'}).sip.location_hosts == (
        "lis.example.net",
    )
    assert load(None, {"CALLPOINT_SIP__LOCATION_HOSTS": ""}).sip.location_hosts == ()
