"""Which locations look like one place entered twice."""

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.e911.location_twins import MAX_PAIRS, Place, Twins, Why, inside_differs, street_key, twins_of

STREET = {"country": "US", "A1": "NY", "A3": "Albany", "HNO": "120", "RD": "Washington", "STS": "Ave", "PC": "12203"}
LETTERS = str.maketrans("0123456789", "ghijklmnop")


def place(number, name, **changes):
    return Place(f"location_{number}", name, {key: value for key, value in (STREET | changes).items() if value})


@pytest.mark.parametrize(
    "spelled",
    [
        {"STS": "Avenue"},
        {"STS": "AVE.", "RD": "WASHINGTON"},
        {"A3": "albany ", "PC": "12203-1234"},
        {"PC": ""},
        {"RD": "Wáshington"},
    ],
)
def test_one_address_is_found_however_it_is_spelled(spelled):
    """S1-37: case, points, short forms and accents tell no places apart."""
    assert twins_of([place(1, "Headquarters"), place(2, "Main office", **spelled)]) == (
        Twins("location_1", "location_2", Why.SAME_ADDRESS),
    )


@pytest.mark.parametrize("other", [{"HNO": "122"}, {"A3": "Troy"}, {"A1": "VT"}, {"PRD": "N"}, {"RD": "Jefferson"}])
def test_another_house_is_no_twin(other):
    """S1-37: what a responder would drive to is another place."""
    assert twins_of([place(1, "Headquarters"), place(2, "Headquarters", **other)]) == ()


def test_floors_of_one_building_are_twins_only_when_their_names_are_alike():
    """S1-37: 'Floor 3' and 'Floor 4' are two places; 'HQ floor 3' entered with 'Fl 3' and '3' is one."""
    floors = [place(number, f"HQ floor {number}", FLR=str(number)) for number in (3, 4, 5)]
    assert twins_of(floors) == ()
    assert twins_of([floors[0], place(9, "HQ Floor 3", FLR="Fl. 3")]) == (
        Twins("location_3", "location_9", Why.SAME_ADDRESS),
    )
    assert twins_of([place(1, "Warehouse", FLR="1"), place(2, "Warehouse", ROOM="7")]) == (
        Twins("location_1", "location_2", Why.SAME_BUILDING),
    )
    assert inside_differs({"FLR": "3"}, {"FLR": "Floor 3"}) == ()
    assert inside_differs({"FLR": "3", "ROOM": "1"}, {"FLR": "4", "ROOM": "1"}) == ("FLR",)


def test_a_name_alone_makes_twins_only_where_an_address_is_missing():
    """S1-37: the same name at two addresses is a chain of shops."""
    bare = Place("location_2", "headquarters (old)", {"country": "US"})
    assert twins_of([place(1, "Headquarters old"), bare]) == (Twins("location_1", "location_2", Why.SAME_NAME),)
    assert twins_of([place(1, "Shop"), place(2, "Shop", HNO="7")]) == ()


def test_the_surest_come_first_and_the_older_of_a_pair_is_first():
    """S1-37: the order is that of a person's work."""
    found = twins_of(
        [
            place(5, "Depot", FLR="1"),
            place(4, "Depot", FLR="2"),
            place(2, "North", HNO="9"),
            place(1, "Northern", HNO="9"),
        ]
    )
    assert [(pair.first, pair.second, pair.why) for pair in found] == [
        ("location_1", "location_2", Why.SAME_ADDRESS),
        ("location_4", "location_5", Why.SAME_BUILDING),
    ]


@given(
    st.lists(
        st.tuples(
            st.text(max_size=30), st.dictionaries(st.sampled_from([*STREET, "FLR", "LOC"]), st.text(max_size=20))
        ),
        max_size=12,
    )
)
def test_any_locations_are_looked_through(rows):
    """S1-37: no text of a name or element stops it; pairs are of two, each once."""
    places = [Place(f"location_{at:02}", name, civic) for at, (name, civic) in enumerate(rows)]
    found = twins_of(places)
    pairs = [(pair.first, pair.second) for pair in found]
    assert len(set(pairs)) == len(pairs)
    assert all(first < second for first, second in pairs)
    assert all(isinstance(street_key(each.civic_address), tuple) for each in places)


def test_a_great_many_locations_are_looked_through_in_one_pass():
    """S1-37: rooms of one tower, towers of look-alikes and names of letters alone take no time that grows by pairs."""
    tower = [place(at, f"HQ {at}", ROOM=str(at)) for at in range(10_000)]
    alike = [place(at, f"Desk {at}", HNO=str(at // 5_000)) for at in range(10_000, 20_000)]
    letters = [
        place(at, f"{at:x}".translate(LETTERS), HNO=f"{at // 500} A", ROOM=str(at)) for at in range(20_000, 30_000)
    ]
    began = process_time()
    found = [twins_of(places) for places in (tower, alike, letters)]
    took = process_time() - began
    assert [len(pairs) for pairs in found[:2]] == [0, MAX_PAIRS]
    assert {pair.first for pair in found[1]} == {"location_10000"}  # of all that are alike, the first
    assert took < 60.0  # by pairs it is minutes: 25 million of the look-alikes alone


def test_with_one_name_those_without_an_address_are_paired_with_all_and_the_others_with_those_alone():
    """S1-37: two shops at two addresses are two shops."""
    bare = [Place(f"location_{at}", "Shop", {}) for at in (2, 4)]
    found = twins_of([place(1, "Shop"), bare[0], place(3, "Shop", HNO="7"), bare[1]])
    assert [(pair.first[-1] + pair.second[-1], pair.why) for pair in found] == [
        (both, Why.SAME_NAME) for both in ("12", "14", "23", "24", "34")
    ]
