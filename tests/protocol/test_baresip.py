"""A phone of another make behind Kamailio dials 911: real SIP on every leg, and a voice that is heard at the PSAP."""

import contextlib
import math
import signal
import wave
from array import array
from collections.abc import Iterator
from pathlib import Path

from engine import snippets
from engine.crypto import KeyRing
from engine.e911.journal import JournalReader
from tests import peers, ports
from tests.peers import CARRIER_IP, FRONT_IP, PBX_IP
from tests.protocol.test_fronts import front, site

MODULES = next((str(place) for place in Path("/usr/lib").glob("**/baresip/modules") if place.is_dir()), "")
TONES_HZ = {"phone": 440, "psap": 660}

CONFIG = """\
sip_listen {ip}:{port}
module_path {modules}
net_interface {ip}
audio_player aubridge,{name}
audio_source aufile,{folder}/tone.wav
audio_alert aubridge,{name}-alert
call_local_timeout 30
rtp_ports {rtp}-{rtp_last}
jitter_buffer_delay 5-10
snd_path {folder}
module g711.so
module aufile.so
module aubridge.so
module sndfile.so
module_app account.so
module_app menu.so
"""


def write_tone(path: Path, tone_hz: int, seconds: int = 30) -> None:
    samples = array("h", (int(8_000 * math.sin(2 * math.pi * tone_hz * n / 8_000)) for n in range(8_000 * seconds)))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8_000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())


@contextlib.contextmanager
def baresip(folder: Path, name: str, ip: str, account: str, *words: str) -> Iterator[tuple[peers.Peer, int, Path]]:
    """Baresip with one account, a tone for a microphone and a file for an ear; yields its SIP port and its folder."""
    own = folder / name
    own.mkdir()
    port, rtp = ports.free_port(ip), 20_000 if name == "phone" else 30_000
    values = {"ip": ip, "port": port, "modules": MODULES, "name": name, "tone": TONES_HZ[name], "folder": own}
    values |= {"rtp": rtp, "rtp_last": rtp + 2_000}
    (own / "config").write_text(CONFIG.format(**values))
    (own / "accounts").write_text(account.format(**values) + "\n")
    (own / "contacts").write_text("")
    write_tone(own / "tone.wav", TONES_HZ[name])
    peer = peers.spawn(name, [peers.command("baresip"), "-f", str(own), "-4", "-s", *words], own, TERM="dumb")
    try:
        peer.ready(lambda: peers.is_bound(ip, port, "udp"))
        yield peer, port, own
    finally:
        peer.stop(signal.SIGINT)


def heard(folder: Path) -> "array[int]":
    """The voice that came in so far: what baresip decoded of RTP, samples at 8 kHz."""
    data = b"".join(path.read_bytes()[44:] for path in folder.glob("dump-*-dec.wav"))
    return array("h", data[: len(data) // 2 * 2])


def loudness(samples: "array[int]", tone_hz: int) -> float:
    """How much of one tone is in there (Goertzel), 0 to 1 of full scale."""
    turn = 2 * math.pi * tone_hz / 8_000
    real = sum(value * math.cos(turn * n) for n, value in enumerate(samples))
    imaginary = sum(value * math.sin(turn * n) for n, value in enumerate(samples))
    return 2 * math.hypot(real, imaginary) / len(samples) / 32_768


def test_a_phone_behind_kamailio_talks_to_the_psap_both_ways(tmp_path: Path, keys: KeyRing) -> None:
    """E-18, E-06: baresip, Kamailio with our snippet, the edge, baresip as the PSAP: audio negotiated end to end.

    This PSAP cannot read a multipart body and answers it with 500: the same trunk is asked again without the location.
    """
    psap_account = "<sip:911@{ip}:{port};transport=udp>;regint=0;answermode=auto;audio_codecs=PCMU"
    with baresip(tmp_path, "psap", CARRIER_IP, psap_account) as (psap, carrier_port, psap_folder):
        account = peers.one_account(peers.trunk(CARRIER_IP, carrier_port), pbx_ip=FRONT_IP)
        with peers.edge(tmp_path, keys, tmp_path / "keys.toml", account) as edge:
            made = site(tmp_path, (snippets.Peer(*edge.udp),), snippets.Peer(CARRIER_IP, carrier_port))
            with front(tmp_path, made) as (_, at):
                account_line = "<sip:101@{ip}:{port};transport=udp>;regint=0;audio_codecs=PCMU"
                account_line += f';outbound="sip:{at[0]}:{at[1]}"'
                dial = ("-e", f"/dial sip:911@{at[0]}:{at[1]}")
                with baresip(tmp_path, "phone", PBX_IP, account_line, *dial) as (_, _, phone_folder):
                    ears = (psap_folder, phone_folder)
                    peers.until(lambda: all(len(heard(ear)) > 8_000 for ear in ears), "a second of both voices")
                peers.until(lambda: "terminated" in psap.words(), "the PSAP heard the BYE")
    for folder, own, other in ((psap_folder, 660, 440), (phone_folder, 440, 660)):
        samples = heard(folder)[2_000:8_000]
        assert loudness(samples, other) > 0.1, "the other end's tone"
        assert loudness(samples, own) < 0.02, "no echo of one's own"
    entries, _ = JournalReader(tmp_path / "journal", keys).read_from()
    attempts = [(each["with_location"], each["status"]) for each in entries if each["type"] == "attempt"]
    assert attempts == [(True, 500), (False, 200)]
    assert [each["type"] for each in entries if each["type"] in {"outcome", "ended"}] == ["outcome", "ended"]
    assert f"INVITE sip:911@{CARRIER_IP}" in psap.log.read_text(errors="replace")
