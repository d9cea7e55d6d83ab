"""Commands on pages run as they are printed."""

import re
from pathlib import Path

import pytest

from admin.render import HERE
from engine.own_command import own_command

FOLDER = Path("/srv/callpoint")


@pytest.mark.parametrize(
    ("argv", "environ", "printed"),
    [
        (["/srv/callpoint/.venv/bin/callpoint", "run"], {}, ".venv/bin/callpoint doctor"),
        ([".venv/bin/callpoint", "run"], {}, ".venv/bin/callpoint doctor"),
        (["/opt/my phones/bin/callpoint", "run"], {}, "'/opt/my phones/bin/callpoint' doctor"),
        (["/x/engine/__main__.py", "run"], {"CALLPOINT_STARTED_AS": "python3 run.py"}, "python3 run.py doctor"),
        (
            [".venv/bin/callpoint", "run", "--config", "/etc/call point.toml"], {},
            ".venv/bin/callpoint doctor --config '/etc/call point.toml'",
        ),
        ([".venv/bin/callpoint", "run", "--config=a.toml"], {}, ".venv/bin/callpoint doctor --config a.toml"),
        ([".venv/bin/callpoint", "run"], {"CALLPOINT_CONFIG": "b.toml"}, ".venv/bin/callpoint doctor --config b.toml"),
        ([".venv/bin/callpoint", "run", "--config"], {}, ".venv/bin/callpoint doctor"),
    ],
)  # fmt: skip
def test_the_command_is_printed_as_it_was_started(argv: list[str], environ: dict[str, str], printed: str) -> None:
    assert own_command("doctor", argv=argv, environ=environ, folder=FOLDER) == printed


def test_an_account_and_a_configuration_stand_where_the_command_takes_them() -> None:
    argv, environ = ["callpoint", "run", "--config", "c.toml"], {"CALLPOINT_STARTED_AS": "python3 run.py"}
    asked = own_command("call 933 --from 101", account="account_1", argv=argv, environ=environ)
    assert asked == "python3 run.py call 933 --from 101 --account account_1 --config c.toml"
    bare = own_command("audit verify FILE", takes_config=False, argv=argv, environ=environ)
    assert bare == "python3 run.py audit verify FILE"
    assert own_command("doctor", argv=["/x/engine/__main__.py"], environ={}).endswith("/callpoint doctor")


def test_no_page_prints_a_command_that_is_not_found() -> None:
    """A bare `callpoint` is on nobody's path: pages ask for the command as it was started."""
    bare = [
        f"{file.name}: {found}"
        for file in sorted((HERE / "templates").glob("*.j2"))
        for found in re.findall(r"(?:<code>|')callpoint [a-z].{20}", file.read_text())
    ]
    assert bare == []
