"""Which number a caller is sent with, who has it, and to whom a call back to it goes."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.e911.callback import FAIL_OVER, called_numbers, credentials_named
from engine.e911.carriers import load_profiles
from engine.e911.hook import Hook
from engine.e911.lending import TEST_HOLD, Lending, Loan
from engine.e911.loans import LoanFiles
from engine.e911.location import AccountTable, CivicAddress, DispatchableLocation, Line, LocationTable, Pbx, Trunk
from engine.e911.route import Deadlines
from engine.e911.rows import Number, NumberHolder
from engine.sip.auth import Challenge, Credentials, answer, read_parameters
from engine.sip.forward import Hop
from tests.siptest import read_request, request

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PBX = Hop("udp", "192.0.2.20", 5062)
CARRIER = Hop("udp", "203.0.113.1", 5060)
OTHER_CARRIER = Hop("udp", "203.0.113.9", 5060)
STRANGER = Hop("udp", "198.51.100.66", 5060)
CIVIC = CivicAddress.of({"country": "US", "A1": "NY"})
ELINS = ("+15185550171", "+15185550172")
HQ = DispatchableLocation("location_hq", "HQ", CIVIC, onsite_number="+15185550100")


def account(account_id="account_1", **changes):
    values = {
        "account_id": account_id,
        "callback_number": "+15185550199",
        "default_location_id": "location_hq",
        "locations": {"location_hq": HQ},
        "lines": (
            Line("line_101", "101", "desk101", callback_number="+15185550101", pbx_id="pbx_1"),
            *(Line(f"line_{n}", str(n), f"desk{n}", f"Desk {n}", pbx_id="pbx_1") for n in (102, 103, 104)),
        ),
        "pbxs": {
            "pbx_1": Pbx(
                "pbx_1", "PBX", (ip_network("192.0.2.20/32"),), None, "sip:198.51.100.9",
                registrar_host="pbx.example", registrar_port=5070,
            )
        },
        "trunks": (Trunk("trunk_1", "Carrier", 10, CARRIER.ip),),
        "numbers": tuple(Number(f"number_{e164}", e164, "elin", "location_hq") for e164 in ELINS),
    }  # fmt: skip
    return AccountTable(**values | changes)


def hook(*accounts, lending=None, trunk_ips=(CARRIER.ip, OTHER_CARRIER.ip), unknown=()):
    table = LocationTable()
    for each in accounts or (account(),):
        table.put(each)
    names = {"pbx.example": "192.0.2.20"}
    counter = itertools.count(1)
    made = Hook(
        table,
        profiles=load_profiles(),
        hops_of=lambda host, port, transport: (
            () if host in unknown else (Hop(transport, names.get(host, host), port or 5060),)
        ),
        down=set(),
        trunk_ips=trunk_ips,
        deadlines=Deadlines(),
        proof_key=b"k" * 32,
        make_call_id=lambda: f"call_{next(counter)}",
        make_callback_id=lambda: "callback_1",
    )
    if lending is not None:
        made.lending.learn(lending)
    return made


def places(at, user, *, now=NOW, uri="sip:911@x", source=PBX):
    """An emergency call of that user; its record."""
    data = request(uri=uri, source=source, added=[f"P-Asserted-Identity: <sip:{user}@pbx>"])
    return left(at.decide(read_request(data), source, now)).call


def left(decision):
    """What was decided, when the request has left: the number it went with is its caller's."""
    if decision.lend is not None:
        decision.lend()
    return decision


def comes_in(at, number, *, source=CARRIER, now=NOW, added=(), uri=None):
    data = request(uri=uri or f"sip:{number}@node", source=source, added=added)
    return at.decide(read_request(data), source, now)


def ways(decision):
    return [(target.name.partition(":")[0], target.edit.request_uri) for target in decision.forward.targets]


# --- which number is sent ---------------------------------------------------------------------------------------------


def test_a_line_with_a_number_of_its_own_is_sent_with_it():
    """E-09: nothing is lent to it; a number row of kind direct counts like the line's own."""
    call = places(hook(), "desk101")
    assert (call.callback_number, call.elin, call.flags) == ("+15185550101", None, ())
    named = account(numbers=(Number("number_1", "+15185550155", "direct", None, "line_102"),))
    assert places(hook(named), "desk102").callback_number == "+15185550155"


def test_a_line_without_one_is_lent_a_number_of_its_location_s_pool():
    """E-09: and the journal says which."""
    call = places(hook(), "desk102")
    assert (call.callback_number, call.elin) == (ELINS[0], ELINS[0])
    assert call.entry(sent_at=NOW, trunk_id=None, invite=b"")["elin"] == ELINS[0]


def test_where_there_is_no_pool_the_general_number_is_sent():
    """As before: the location's, the account's, what the PBX asserts."""
    assert places(hook(account(numbers=())), "desk102").callback_number == "+15185550199"
    bare = account(numbers=(), callback_number=None)
    assert places(hook(bare), "+15185550133").callback_number == "+15185550133"
    assert places(hook(bare), "nobody").callback_number is None


def test_three_callers_on_a_pool_of_two():
    """E-09: the first keeps nothing when the third comes: the oldest is taken, and both the warning and the fact are
    flags of the calls.
    """
    at = hook()
    calls = [places(at, f"desk{100 + n}", now=NOW + n * MINUTE) for n in (2, 3, 4)]
    assert [call.elin for call in calls] == [ELINS[0], ELINS[1], ELINS[0]]
    assert [call.flags for call in calls] == [(), ("elin_low",), ("elin_exhausted",)]
    inbound = comes_in(at, ELINS[0], now=NOW + 10 * MINUTE)
    assert inbound.callback.call == calls[2].id
    assert ways(inbound)[0] == ("caller", "sip:desk104@pbx.example:5070")


def test_two_who_withhold_their_names_get_a_number_each_and_are_called_back_by_way_of_the_site():
    """E-09: told apart by the phone's address, else by the call; nobody is called `anonymous`."""
    at = hook()

    def calls(number, ip=""):
        data = request(uri="sip:911@x", call_id=f"{number}@pbx", added=[f"X-Callpoint-Source: {ip}"] if ip else [])
        data = data.replace(b'"Alice" <sip:101@192.0.2.20>', b"<sip:anonymous@anonymous.invalid>")
        data = data.replace(b"Contact: <sip:101@", b"Contact: <sip:asterisk@")
        return left(at.decide(read_request(data), PBX, NOW)).call

    first, other, again = calls(1, "10.77.0.50"), calls(2, "10.77.0.60"), calls(3, "10.77.0.50")
    assert [first.elin, other.elin, again.elin] == [ELINS[0], ELINS[1], ELINS[0]]
    inbound = comes_in(at, ELINS[1])
    assert (inbound.callback.orphan, inbound.callback.psap, inbound.callback.call) == (True, True, other.id)
    assert not [way for way, _ in ways(inbound) if way == "caller"]
    at = hook()
    assert [calls(1).elin, calls(2).elin, calls(2).elin] == [ELINS[0], ELINS[1], ELINS[1]]


@pytest.mark.parametrize(
    "told",
    [
        "P-Asserted-Identity: <sip:anonymous@anonymous.invalid>, <sip:{user}@pbx.example>",
        'Remote-Party-ID: "Dana" <sip:{user}@pbx.example>;party=calling;privacy=full;screen=yes',
        'Remote-Party-ID: <sip:desk104@pbx.example>;party=called\r\nRemote-Party-ID: "Dana" <sip:{user}@pbx.example>',
        "P-Asserted-Identity: <sip:restricted@pbx>\r\nP-Preferred-Identity: <sip:{user}@pbx.example>",
        "Contact: <sip:{user}@192.0.2.20:5060>;expires=60",
    ],
)
def test_who_withholds_the_name_is_known_by_what_else_the_pbx_says(told: str):
    """E-09, E-05: each has a number, a place and a telephone that rings when the PSAP calls back."""
    at = hook()

    def calls(number: int, user: str):
        data = request(uri="sip:911@x", call_id=f"{number}@pbx")
        data = data.replace(b'"Alice" <sip:101@192.0.2.20>', b'"Anonymous" <sip:anonymous@anonymous.invalid>')
        contact = next(line for line in data.split(b"\r\n") if line.startswith(b"Contact: "))
        added = told.format(user=user) if told.startswith("Contact") else f"Contact: <sip:pbx@x>\r\n{told}"
        data = data.replace(contact, added.format(user=user).encode())
        return left(at.decide(read_request(data), PBX, NOW)).call

    first, other, again = calls(1, "desk102"), calls(2, "desk103"), calls(3, "desk102")
    assert [call.resolved.line.sip_user for call in (first, other, again)] == ["desk102", "desk103", "desk102"]
    assert [first.elin, other.elin, again.elin] == [ELINS[0], ELINS[1], ELINS[0]]
    assert ways(comes_in(at, first.elin))[0] == ("caller", "sip:desk102@pbx.example:5070")
    assert calls(4, "desk101").callback_number == "+15185550101"


def test_a_contact_of_nobody_and_who_forwarded_a_call_make_no_two_callers_one():
    """E-09: the PBX's own Contact is the same for all, and Diversion (RFC 5806) names another's telephone."""
    at = hook()

    def calls(number: int):
        added = ["Diversion: <sip:desk102@pbx.example>;reason=unconditional"]
        data = request(uri="sip:911@x", call_id=f"{number}@pbx", added=added)
        data = data.replace(b'"Alice" <sip:101@192.0.2.20>', b"<sip:anonymous@anonymous.invalid>")
        data = data.replace(b"Contact: <sip:101@", b"Contact: <sip:5000@")
        return left(at.decide(read_request(data), PBX, NOW)).call

    assert [calls(1).elin, calls(2).elin] == list(ELINS[:2])


def test_who_calls_again_gets_the_same_number_and_a_longer_hold():
    """E-09: a caller who was cut off does not use up the pool."""
    at = hook()
    first = places(at, "desk102")
    again = places(at, "desk102", now=NOW + 100 * MINUTE)
    assert first.elin == again.elin
    assert at.lending.loan_of(first.elin, NOW + 270 * MINUTE).call == again.id
    assert at.lending.loan_of(first.elin, NOW + 280 * MINUTE) is None


def test_a_number_is_lent_for_180_minutes_where_nothing_else_is_set():
    """E-09: to the last moment a callback finds its caller; from then on it is somebody's in the building."""
    at = hook()
    call = places(at, "desk102")
    last, over = NOW + timedelta(minutes=180, microseconds=-1), NOW + timedelta(minutes=180)
    assert at.lending.loan_of(call.elin, last).until == over
    assert at.lending.loan_of(call.elin, over) is None
    assert comes_in(at, call.elin, now=last).callback.call == call.id
    assert ways(comes_in(at, call.elin, now=last))[0] == ("caller", "sip:desk102@pbx.example:5070")
    late = comes_in(at, call.elin, now=over)
    assert (late.callback.call, late.callback.orphan) == (None, True)
    for when, flags in ((last, ("elin_exhausted",)), (over, ())):
        both_lent = hook()
        assert [places(both_lent, desk).elin for desk in ("desk102", "desk103")] == list(ELINS)
        assert places(both_lent, "desk104", now=when).flags == flags


def test_a_number_that_is_free_again_rests_as_long_as_others_are():
    """E-09: a PSAP that calls after the hold finds nobody rather than the wrong caller."""
    at = hook(account(elin_hold_minutes=30))
    assert places(at, "desk102").elin == ELINS[0]
    assert places(at, "desk103", now=NOW + 31 * MINUTE).elin == ELINS[1]
    assert places(at, "desk104", now=NOW + 70 * MINUTE).elin == ELINS[0]


def test_a_test_call_never_takes_a_number_from_a_real_one():
    """E-09: it is sent with one all the same, and gives way to the next 911."""
    at = hook()
    real = places(at, "desk102")
    test = places(at, "desk103", uri="sip:933@x")
    assert (test.elin, test.flags) == (ELINS[1], ("elin_low",))
    assert at.lending.loan_of(ELINS[1], NOW + TEST_HOLD) is None
    taken = places(at, "desk104", now=NOW + MINUTE)
    assert taken.elin == ELINS[1]
    none_left = places(at, "desk103", uri="sip:933@x", now=NOW + 2 * MINUTE)
    assert none_left.flags == ("elin_exhausted",)
    assert {at.lending.loan_of(each, NOW + 2 * MINUTE).call for each in ELINS} == {real.id, taken.id}


def test_what_the_database_knew_before_a_restart_counts():
    """E-09: a number held by somebody else is not free."""
    holder = NumberHolder("pbx_1", "desk103", "103", "Desk 103", "call_before")
    held = Number("number_1", ELINS[0], "elin", "location_hq", None, NOW + 90 * MINUTE, holder)
    at = hook(account(numbers=(held, Number("number_2", ELINS[1], "elin", "location_hq"))))
    assert places(at, "desk102").elin == ELINS[1]
    assert places(at, "desk103").elin == ELINS[0]
    at = hook(account(numbers=(held,)))
    inbound = comes_in(at, ELINS[0])
    assert (inbound.callback.call, inbound.callback.psap) == ("call_before", True)
    assert ways(inbound)[0] == ("caller", "sip:desk103@pbx.example:5070")


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(102, 104), st.integers(0, 90), st.booleans()), max_size=25))
def test_no_two_callers_ever_hold_one_number(steps):
    """E-09: whatever the order of calls: whoever was lent a number last is whom it leads to."""
    at, now, last = hook(), NOW, {}
    for user, minutes, is_test in steps:
        now += minutes * MINUTE
        call = places(at, f"desk{user}", now=now, uri="sip:933@x" if is_test else "sip:911@x")
        assert call.elin in ELINS
        if at.lending.loan_of(call.elin, now).call == call.id:
            last[call.elin] = f"desk{user}"
        assert is_test or last[call.elin] == f"desk{user}"
    for number, user in last.items():
        loan = at.lending.loan_of(number, now)
        assert loan is None or loan.sip_user == user


# --- a call back ------------------------------------------------------------------------------------------------------


def test_a_call_to_a_lent_number_reaches_its_caller_marked_as_from_a_psap():
    """E-09: RFC 7090: by the PBX that placed the call, first by its SIP user, then by its extension, then the people on
    the site.
    """
    at = hook()
    call = places(at, "desk102")
    inbound = comes_in(at, call.elin, now=NOW + 5 * MINUTE, added=["Priority: normal"])
    assert ways(inbound) == [
        ("caller", "sip:desk102@pbx.example:5070"),
        ("caller", "sip:102@pbx.example:5070"),
        ("onsite", "sip:+15185550100@pbx.example:5070"),
    ]
    target = inbound.forward.targets[0]
    assert target.hop == Hop("udp", "192.0.2.20", 5070)
    assert (target.edit.remove, target.edit.add) == (("Priority",), (("Priority", "psap-callback"),))
    assert (inbound.forward.fail_over, inbound.forward.emergency) == (FAIL_OVER, True)
    made = inbound.callback
    assert (made.call, made.pbx_id, made.number, made.psap, made.orphan) == (call.id, "pbx_1", call.elin, True, False)
    assert made.from_uri == "sip:101@192.0.2.20"


def test_the_mark_of_a_carrier_is_kept_as_it_is():
    """E-09: RFC 7090 §5: trusted from a carrier, on a number that no call went out with too."""
    inbound = comes_in(hook(), "+15185550101", added=["Priority: PSAP-callback"])
    assert inbound.callback.psap
    assert inbound.forward.targets[0].edit.remove == inbound.forward.targets[0].edit.add == ()


def test_a_call_to_a_line_s_own_number_goes_to_the_line():
    """E-09: without a mark it is a call like any other: nobody on the site is woken by it."""
    inbound = comes_in(hook(), "+15185550101")
    assert ways(inbound) == [
        ("caller", "sip:desk101@pbx.example:5070"),
        ("caller", "sip:101@pbx.example:5070"),
    ]
    assert (inbound.callback.psap, inbound.forward.emergency) == (False, False)
    assert inbound.forward.fail_over == {503}
    at = hook()
    places(at, "desk101")
    assert comes_in(at, "+15185550101", now=NOW + MINUTE).callback.psap


def test_a_general_number_leads_back_to_who_called_with_it_last():
    """E-09: while it is held; after that to whomever the PBX gives it."""
    at = hook(account(numbers=()))
    places(at, "desk102")
    places(at, "desk103", now=NOW + MINUTE)
    assert ways(comes_in(at, "+15185550199", now=NOW + 2 * MINUTE))[0][1] == "sip:desk103@pbx.example:5070"
    assert ways(comes_in(at, "+15185550199", now=NOW + 200 * MINUTE)) == [
        ("caller", "sip:+15185550199@pbx.example:5070"),
        ("onsite", "sip:+15185550100@pbx.example:5070"),
    ]


def test_a_number_whose_caller_another_node_knows_is_tried_at_every_pbx():
    """E-09: the database is away, or that node died with what it knew: a place's number, the account's, and what a PBX
    said of itself, when a PSAP calls it by the carrier of one customer alone. Who does not know it refuses.
    """
    base = account(numbers=())
    other = replace(base.pbxs["pbx_1"], id="pbx_2", registrar_host="192.0.2.99")
    at = hook(replace(base, pbxs=base.pbxs | {"pbx_2": other}))
    both = [("caller", f"sip:+15185550199@{host}:5070") for host in ("pbx.example", "192.0.2.99")]
    inbound = comes_in(at, "+15185550199")
    assert ways(inbound)[:2] == both
    assert (inbound.callback.psap, inbound.callback.orphan, inbound.forward.fail_over) == (False, False, FAIL_OVER)
    assert 404 in FAIL_OVER
    said = "+15185550133"
    assert comes_in(at, said).status == 404
    marked = comes_in(at, said, added=["Priority: psap-callback"])
    assert [uri for _, uri in ways(marked)[:2]] == [uri.replace("+15185550199", said) for _, uri in both]
    two = hook(base, account("account_2", callback_number=None, numbers=()))
    assert comes_in(two, said, added=["Priority: psap-callback"]).status == 404
    proxied = hook(base, trunk_ips=(CARRIER.ip, PBX.ip))
    assert comes_in(proxied, "+15185550199", source=PBX).callback is None


def test_an_orphan_goes_to_the_people_on_the_site():
    """E-09: the hold is over, or the process that knew is gone: never nobody."""
    at = hook()
    call = places(at, "desk102")
    inbound = comes_in(at, call.elin, now=NOW + 200 * MINUTE)
    assert ways(inbound) == [("onsite", "sip:+15185550100@pbx.example:5070")]
    assert (inbound.callback.orphan, inbound.callback.call, inbound.callback.psap) == (True, None, False)
    silent = replace(HQ, onsite_number=None)
    nowhere = comes_in(hook(account(locations={"location_hq": silent})), ELINS[1])
    assert (nowhere.status, nowhere.forward, nowhere.callback.orphan) == (480, None, True)


def test_another_location_s_people_are_asked_where_its_own_have_no_number():
    branch = DispatchableLocation("location_branch", "Branch", CIVIC)
    numbers = (Number("number_9", "+15185550179", "elin", "location_branch"),)
    at = hook(account(locations={"location_hq": HQ, "location_branch": branch}, numbers=numbers))
    assert ways(comes_in(at, "+15185550179")) == [("onsite", "sip:+15185550100@pbx.example:5070")]


@pytest.mark.parametrize(
    ("changes", "uri", "hop"),
    [
        ({"registrar_host": ""}, "sip:desk102@192.0.2.20:5062", PBX),
        ({"transport": "tcp"}, "sip:desk102@pbx.example:5070;transport=tcp", Hop("tcp", "192.0.2.20", 5070)),
    ],
)
def test_the_way_back_is_the_registrar_or_where_the_call_came_from(changes, uri, hop):
    base = account()
    at = hook(replace(base, pbxs={"pbx_1": replace(base.pbxs["pbx_1"], **changes)}))
    call = places(at, "desk102")
    target = comes_in(at, call.elin).forward.targets[0]
    assert (target.edit.request_uri, target.hop) == (uri, hop)


def test_a_registrar_whose_name_leads_nowhere_is_none():
    """E-09: where the PBX called from last is better than nobody; a caller who is known is no orphan, rung or not."""
    at = hook(unknown=("pbx.example",))
    call = places(at, "desk102")
    inbound = comes_in(at, call.elin)
    assert inbound.forward.targets[0].edit.request_uri == "sip:desk102@192.0.2.20:5062"
    assert not inbound.callback.orphan
    wide = replace(account().pbxs["pbx_1"], sources=(ip_network("192.0.2.0/24"),))
    nowhere = comes_in(hook(account(pbxs={"pbx_1": wide}), unknown=("pbx.example",)), "+15185550101")
    assert (nowhere.status, nowhere.forward, nowhere.callback.orphan) == (480, None, False)


def test_a_pbx_without_a_registrar_that_has_not_called_is_found_by_its_one_address():
    base = account()
    at = hook(replace(base, pbxs={"pbx_1": replace(base.pbxs["pbx_1"], registrar_host="")}))
    assert comes_in(at, "+15185550101").forward.targets[0].hop == Hop("udp", "192.0.2.20", 5060)


def test_a_connection_s_own_port_is_no_way_back_once_it_has_closed():
    """E-09: the PBX called over TCP from a port where nobody listens; SIP's own port at its address is tried next."""
    base = account()
    at = hook(replace(base, pbxs={"pbx_1": replace(base.pbxs["pbx_1"], registrar_host="")}))
    call = places(at, "desk102", source=Hop("tcp", PBX.ip, 41_135, 7))
    ways = comes_in(at, call.elin).forward.targets
    assert [(target.hop[:3], target.edit.request_uri) for target in ways[:2]] == [
        (("tcp", PBX.ip, 41_135), f"sip:desk102@{PBX.ip}:41135;transport=tcp"),
        (("udp", PBX.ip, 5060), f"sip:desk102@{PBX.ip}:5060"),
    ]


def test_a_pbx_that_moved_since_its_call_is_looked_for_where_it_was_last():
    """E-09: another TLS connection, another address behind its NAT; then where the call came from."""
    base = account()
    moving = replace(base.pbxs["pbx_1"], registrar_host="", sources=(), auth_user="acme", secret="s")
    at = hook(replace(base, pbxs={"pbx_1": moving}))
    first, second = Hop("udp", "198.51.100.7", 40_000), Hop("udp", "198.51.100.8", 50_000)

    def proven_call(source, call_id, user):
        who = f"P-Asserted-Identity: <sip:{user}@pbx>"
        data = request(source=source, call_id=call_id, added=[who])
        challenge = at.decide(read_request(data), source, NOW).headers[0][1]
        made = Challenge("callpoint", read_parameters(challenge)["nonce"], "MD5", qop="auth", is_proxy=True)
        line = ": ".join(answer(made, Credentials("acme", "s"), "INVITE", "sip:911@192.0.2.10", cnonce="c"))
        data = request(source=source, call_id=call_id, added=[who, line])
        return left(at.decide(read_request(data), source, NOW)).call

    call = proven_call(first, "one", "desk102")
    assert [target.hop for target in comes_in(at, call.elin).forward.targets][:1] == [first]
    proven_call(second, "two", "desk103")
    hops = [target.hop for target in comes_in(at, call.elin).forward.targets]
    assert hops[:2] == [second, first]


def test_a_pbx_that_asks_for_a_password_is_given_the_one_it_shares_with_us():
    """E-09: at once, and inside the dialog by the target's name."""
    base = account()
    table = LocationTable()
    table.put(replace(base, pbxs={"pbx_1": replace(base.pbxs["pbx_1"], auth_user="acme", secret="s")}))
    at = hook(table.accounts["account_1"])
    target = comes_in(at, "+15185550101").forward.targets[0]
    assert target.credentials == Credentials("acme", "s") == credentials_named(table, target.name)
    assert credentials_named(table, "trunk_1") is None
    for unknown in ("trunk_gone", "caller:account_gone:pbx_1", "onsite:account_1:pbx_gone", ""):
        assert credentials_named(table, unknown) is None


def test_a_telephone_that_must_be_woken_has_time_until_the_desk_rings_beside_it():
    """E-09: a PBX says 100 at once, and 180 when an app on a mobile has come up."""
    at = hook()
    inbound = comes_in(at, places(at, "desk102").elin)
    assert {target.progress_s for target in inbound.forward.targets} == {20.0}


def test_a_number_of_nobody_is_not_found():
    for uri in ("sip:+15185550000@node", "sip:node", "sip:alice@node", "tel:+15185550000", "urn:service:sos"):
        refused = comes_in(hook(), "", uri=uri)
        assert (refused.status, refused.callback, refused.stranger) == (404, None, None)


def test_only_a_carrier_of_the_account_reaches_its_numbers():
    """E-04: another account's trunk is no way in; one of last resort serves everybody."""
    other = Trunk("trunk_2", "Other", 10, OTHER_CARRIER.ip)
    second = account("account_2", numbers=(), lines=(), trunks=(other,))
    at = hook(account(), second)
    assert comes_in(at, ELINS[0], source=OTHER_CARRIER).status == 404
    shared = hook(account(), replace(second, trunks=(replace(other, last_resort=True),)))
    assert comes_in(shared, ELINS[0], source=OTHER_CARRIER).callback.account_id == "account_1"


def test_nobody_but_a_carrier_may_say_that_it_is_a_psap():
    """E-04: RFC 7090 §6: from a PBX the mark is cut; a stranger is refused."""
    from_pbx = comes_in(hook(), "102", source=PBX, added=["Priority: psap-callback"])
    assert from_pbx.forward.targets[0].edit.remove == ("Priority",)
    assert comes_in(hook(), "102", source=PBX, added=["Priority: urgent"]).forward.targets[0].edit.remove == ()
    assert comes_in(hook(), ELINS[0], source=STRANGER, added=["Priority: psap-callback"]).status == 403


def test_a_proxy_in_front_of_both_is_a_pbx_until_a_lent_number_is_called():
    """E-17: one address for PBX and carrier: ordinary calls, those to lines among them, go on by the default route."""
    base = account(trunks=(Trunk("trunk_1", "Front", 10, PBX.ip),))
    at = hook(base, trunk_ips=(PBX.ip,))
    call = places(at, "desk102")
    assert comes_in(at, call.elin, source=PBX).callback.call == call.id
    assert comes_in(at, "+15185550101", source=PBX).forward.targets[0].name == "default_route"
    assert comes_in(at, "102", source=PBX).forward.targets[0].name == "default_route"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sip:5185550171@x", ["+15185550171", "+5185550171", "5185550171"]),
        ("sip:15185550171@x", ["+15185550171", "15185550171"]),
        ("sip:+1-518-555-0171;npdi@x", ["+15185550171"]),
        ("tel:+1(518)555.0171;phone-context=x", ["+15185550171"]),
        ("sip:%2B15185550171@x", ["+15185550171"]),
        ("sip:alice@x", []),
    ],
)
def test_a_number_is_read_however_a_carrier_writes_it(uri, expected):
    """E-09: E.164 with and without +, national, with separators, escaped; To counts where the Request-URI says none."""
    got = read_request(request(uri=uri))
    assert [number for number in called_numbers(got) if "911" not in number] == expected


@pytest.mark.parametrize(
    ("country", "dialed", "number"),
    [
        ("GB", "02079460000", "+442079460000"),
        ("GB", "00442079460000", "+442079460000"),
        ("GB", "442079460000", "+442079460000"),
        ("AU", "0291234567", "+61291234567"),
        ("AU", "001161291234567", "+61291234567"),
        ("NZ", "033456789", "+6433456789"),
        ("NZ", "006433456789", "+6433456789"),
        ("DE", "03012345678", "+493012345678"),
        ("HU", "0612345678", "+3612345678"),
        ("IT", "0612345678", "+390612345678"),
        ("ES", "912345678", "+34912345678"),
        ("FR", "0033123456789", "+33123456789"),
        ("US", "01144207946000", "+44207946000"),
        ("US", "2125550171", "+12125550171"),
    ],
)
def test_a_number_is_read_as_it_is_dialled_in_the_account_s_country(country, dialed, number):
    """E-09, E-01: by the national and the international prefix there; another country's account has no part in it."""
    abroad = account(
        country=country,
        locations={},
        default_location_id=None,
        lines=(Line("line_1", "101", "desk101", callback_number=number, pbx_id="pbx_1"),),
        numbers=(),
    )
    other = replace(abroad, account_id="account_2", country="US" if country != "US" else "GB")
    assert comes_in(hook(abroad), dialed).callback.number == number
    assert (comes_in(hook(other), dialed).callback is not None) == (number == f"+{dialed}")


def test_to_says_who_is_called_where_the_request_uri_names_a_trunk_s_user():
    data = request(uri="sip:trunk-user@node", source=CARRIER)
    data = data.replace(b"To: <sip:911@192.0.2.10>", f"To: <sip:{ELINS[0]}@node>".encode())
    assert hook().decide(read_request(data), CARRIER, NOW).callback.number == ELINS[0]


# --- loans on disk ----------------------------------------------------------------------------------------------------


def loan(number=ELINS[0], minutes=60, **changes):
    values = {"call": "call_1", "pbx_id": "pbx_1", "sip_user": "desk102", "hop": PBX._replace(connection=7)}
    return Loan(number, "account_1", NOW + minutes * MINUTE, **values | changes)


def settled(files, now=NOW):
    files._work.result()
    files.tick(now)


def test_a_restart_keeps_who_has_which_number(tmp_path, keys):
    """E-09: written beside the calls, read at the start; what is over is left out, the stream is another one."""
    lending = Lending()
    files = LoanFiles(tmp_path, keys, lending)
    lending.lend(loan())
    lending.lend(loan(ELINS[1], minutes=-1))
    files.tick(NOW)
    settled(files)
    files.close()
    after = Lending()
    LoanFiles(tmp_path, keys, after).load(NOW)
    assert after.loans(NOW) == [loan(hop=PBX)]
    assert b"desk102" not in (tmp_path / "loans" / "edge.loans").read_bytes()


def test_a_file_is_begun_anew_when_most_of_it_is_over(tmp_path, keys):
    lending = Lending()
    files = LoanFiles(tmp_path, keys, lending, max_lines=3)
    sizes = []
    for minutes in range(60, 66):
        lending.lend(loan(minutes=minutes))
        files.tick(NOW)
        settled(files)
        sizes.append(len((tmp_path / "loans" / "edge.loans").read_bytes().splitlines()))
    assert max(sizes) <= 5
    assert min(sizes[3:]) < 4
    files.close()
    after = Lending()
    LoanFiles(tmp_path, keys, after).load(NOW)
    assert after.loan_of(ELINS[0], NOW + 64 * MINUTE) == loan(minutes=65, hop=PBX)


def test_what_was_lent_at_the_very_end_is_written_when_closing(tmp_path, keys):
    lending = Lending()
    files = LoanFiles(tmp_path, keys, lending)
    lending.lend(loan())
    files.close()
    after = Lending()
    LoanFiles(tmp_path, keys, after).load(NOW)
    assert [each.number for each in after.loans(NOW)] == [ELINS[0]]


def test_processes_learn_of_each_other_s_loans(tmp_path, keys):
    """E-09: a call back finds its caller whichever process takes it; the later loan of a number counts."""
    one, other = Lending(), Lending()
    mine, theirs = LoanFiles(tmp_path, keys, one, name="1"), LoanFiles(tmp_path, keys, other, name="2")
    one.lend(loan())
    mine.tick(NOW)
    settled(mine)
    theirs.tick(NOW)
    assert other.loan_of(ELINS[0], NOW).sip_user == "desk102"
    other.lend(loan(minutes=90, sip_user="desk103"))
    theirs.tick(NOW)
    settled(theirs)
    mine.tick(NOW)
    assert one.loan_of(ELINS[0], NOW).sip_user == "desk103"
    mine.close()
    theirs.close()


@pytest.mark.parametrize("hours", [5, -5])
def test_a_clock_that_is_set_ends_no_loan_and_makes_none_longer(tmp_path, keys, hours):
    """E-09: the clock is put right by hours while a number is lent: a call back finds its caller as long as before."""
    clock, set_to = [100.0], timedelta(hours=hours)
    one, other = Lending(), Lending()
    mine, theirs = (
        LoanFiles(tmp_path, keys, each, name=name, monotonic=lambda: clock[0])
        for each, name in ((one, "1"), (other, "2"))
    )
    one.lend(loan(minutes=60))
    mine.tick(NOW)
    settled(mine)
    theirs.tick(NOW)
    clock[0] += 600
    then = NOW + 10 * MINUTE + set_to
    for files in (mine, theirs, mine, theirs):
        files.tick(then)
        if files._work is not None:
            settled(files, then)
    for lending in (one, other):
        assert lending.loan_of(ELINS[0], then + 49 * MINUTE).sip_user == "desk102"
        assert lending.loan_of(ELINS[0], then + 51 * MINUTE) is None
    mine.close()
    theirs.close()
    after = Lending()
    LoanFiles(tmp_path, keys, after).load(then)
    assert after.loan_of(ELINS[0], then + 49 * MINUTE).sip_user == "desk102"
    assert after.loan_of(ELINS[0], then + 51 * MINUTE) is None


def test_a_file_that_cannot_be_read_costs_its_loans_and_nothing_else(tmp_path, keys):
    (tmp_path / "loans").mkdir()
    (tmp_path / "loans" / "x.loans").write_bytes(b"nonsense\nbm9uc2Vuc2U=\ncut off")
    lending = Lending()
    files = LoanFiles(tmp_path, keys, lending)
    files.load(NOW)
    assert "x.loans: a line cannot be read" in files.fault
    assert lending.loans(NOW) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path, keys):
    (tmp_path / "loans").write_text("a file in the way")
    lending = Lending()
    files = LoanFiles(tmp_path, keys, lending)
    lending.lend(loan())
    files.close()
    assert "cannot be written" in files.fault


def test_no_account_s_pbx_takes_another_account_s_numbers_by_saying_them():
    """E-04: whoever shares a carrier with others could have their calls back, by one 911 in their name."""
    stranger_pbx = Hop("udp", "192.0.2.50", 5060)
    pbx = Pbx("pbx_2", "Other", (ip_network("192.0.2.50/32"),))
    other = account("account_2", callback_number=None, default_location_id=None, locations={}, lines=(), numbers=(),
                    pbxs={"pbx_2": pbx}, trunks=(Trunk("trunk_2", "Carrier", 10, CARRIER.ip),))  # fmt: skip
    at = hook(account(), other)
    assert places(at, "desk102").callback_number == ELINS[0]
    for number in (ELINS[0], "+15185550101", "+15185550188"):
        assert places(at, number, source=stranger_pbx).callback_number == number
    assert ways(comes_in(at, ELINS[0]))[0] == ("caller", "sip:desk102@pbx.example:5070")
    assert ways(comes_in(at, "+15185550101"))[0] == ("caller", "sip:desk101@pbx.example:5070")
    assert ways(comes_in(at, "+15185550188")) == [("caller", "sip:+15185550188@192.0.2.50:5060")]  # nobody else's


@pytest.mark.parametrize(
    ("user", "called"),
    [("a%0d%0aX-Evil:%201", "a%0D%0AX-Evil"), ("%22two%20words%22", "%22two%20words%22"), ("+1;x=y", "+1;x=y")],
)
def test_whatever_a_caller_is_named_the_call_back_is_a_request_that_can_be_read(user, called):
    """E-09: escapes in a user part are undone where it is compared, and made again where it is called."""
    at = hook(account(lines=()))
    number = places(at, user).callback_number
    decision = comes_in(at, number)
    assert ways(decision)[0] == ("caller", f"sip:{called}@pbx.example:5070")


@pytest.mark.parametrize(
    "lines",
    [
        ["Priority: psap-callback"], ["priority :\r\n PSAP-Callback"], ["Priority: normal", "Priority: psap-callback"],
        ["Priority: psap-callback;x=1"], ["Priority: normal, psap-callback"],
    ],
)  # fmt: skip
def test_a_pbx_cannot_say_that_its_call_is_a_psap_s_however_it_writes_it(lines):
    """E-09: RFC 7090 §6: such a call rings through everything; a carrier alone may say it is one."""
    at = hook()
    data = request(uri="sip:500@x", source=PBX, added=lines)
    (target,) = at.decide(read_request(data), PBX, NOW).forward.targets
    assert target.edit.remove == ("Priority",)
    plain = request(uri="sip:500@x", source=PBX, added=["Priority: urgent"])
    (target,) = at.decide(read_request(plain), PBX, NOW).forward.targets
    assert target.edit.remove == ()


def test_a_test_call_brings_no_customer_s_call_to_who_tested():
    """E-09: 933 goes out with the firm's main number; what comes in for that within ten minutes is not for the tester,
    and what comes in for a number lent to a test is not marked as a PSAP's.
    """
    at = hook(account(numbers=()))
    assert places(at, "desk102", uri="sip:933@x").callback_number == "+15185550199"
    assert ways(comes_in(at, "+15185550199"))[0] == ("caller", "sip:+15185550199@pbx.example:5070")
    places(at, "desk102")
    assert ways(comes_in(at, "+15185550199"))[0] == ("caller", "sip:desk102@pbx.example:5070")
    pooled = hook()
    number = places(pooled, "desk103", uri="sip:933@x").callback_number
    decision = comes_in(pooled, number)
    assert ways(decision)[0] == ("caller", "sip:desk103@pbx.example:5070")
    assert (decision.callback.psap, decision.forward.targets[0].edit.add) == (False, ())
