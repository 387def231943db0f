"""Cursor on Target: what is read, what is refused at the door, what clients are told."""

from __future__ import annotations

import io
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import takproto
from lxml import etree
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from data.accounts import Account
from data.cot import DEPTH_MAX, EVENTS_MAX, Wording, incidents_xml, parse_events
from data.team_message import Position, read_position
from data.teams import list_teams, store_positions
from data.verify import verify
from geo.errors import InvalidInput, TooLarge
from tests.feeds import INSIDE, NANAN, SHAPINGBA, YUZHONG

NOW = datetime(2026, 11, 21, 1, 0, tzinfo=UTC)
FIELD = Account("field", "field", (YUZHONG,))
OTHER = Account("field-other", "field", (SHAPINGBA,))
COMMANDER = Account("commander", "commander", ("*",))
VIEWER = Account("viewer", "viewer", ("*",))
SCRIPT = '<img src=x onerror="alert(1)">&\'\u0000${alert(1)}'

# The facts of the public base schema of CoT 2.0: which attributes an event has, and their types.
SCHEMA = etree.XMLSchema(
    etree.fromstring("""
<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
  <xs:simpleType name="code"><xs:restriction base="xs:string">
    <xs:pattern value="\\w+(-\\w+)*"/></xs:restriction></xs:simpleType>
  <xs:simpleType name="lat"><xs:restriction base="xs:decimal">
    <xs:minInclusive value="-90"/><xs:maxInclusive value="90"/></xs:restriction></xs:simpleType>
  <xs:simpleType name="lon"><xs:restriction base="xs:decimal">
    <xs:minInclusive value="-180"/><xs:maxInclusive value="180"/></xs:restriction></xs:simpleType>
  <xs:simpleType name="version"><xs:restriction base="xs:decimal">
    <xs:enumeration value="2.0"/></xs:restriction></xs:simpleType>
  <xs:element name="event"><xs:complexType><xs:all>
    <xs:element name="point"><xs:complexType>
      <xs:attribute name="lat" type="lat" use="required"/>
      <xs:attribute name="lon" type="lon" use="required"/>
      <xs:attribute name="hae" type="xs:decimal" use="required"/>
      <xs:attribute name="ce" type="xs:decimal" use="required"/>
      <xs:attribute name="le" type="xs:decimal" use="required"/>
    </xs:complexType></xs:element>
    <xs:element name="detail" minOccurs="0"><xs:complexType><xs:sequence>
      <xs:any processContents="skip" minOccurs="0" maxOccurs="unbounded"/>
    </xs:sequence></xs:complexType></xs:element>
  </xs:all>
    <xs:attribute name="version" type="version" use="required"/>
    <xs:attribute name="uid" type="xs:string" use="required"/>
    <xs:attribute name="type" type="code" use="required"/>
    <xs:attribute name="time" type="xs:dateTime" use="required"/>
    <xs:attribute name="start" type="xs:dateTime" use="required"/>
    <xs:attribute name="stale" type="xs:dateTime" use="required"/>
    <xs:attribute name="how" type="code" use="required"/>
  </xs:complexType></xs:element>
</xs:schema>""")
)


def stamp(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def position(uid: str = "T-1", place: Any = None, ago_s: float = 60, /, **more: str) -> str:
    lon, lat = INSIDE[YUZHONG] if place is None else place
    seen = datetime.now(UTC) - timedelta(seconds=ago_s)
    given = {
        "version": "2.0",
        "uid": uid,
        "type": "a-f-G-U-C",
        "how": "m-g",
        "time": stamp(seen),
        "start": stamp(seen),
        "stale": stamp(seen + timedelta(minutes=5)),
        "lat": str(lat),
        "lon": str(lon),
        "detail": '<contact callsign="抢险一队"/><__group name="Cyan" role="Team Lead"/>'
        '<status battery="81"/><track speed="2.5" course="271.0"/>',
    } | more
    event = " ".join(f'{k}="{v}"' for k, v in given.items() if k not in ("lat", "lon", "detail"))
    point = f'<point lat="{given["lat"]}" lon="{given["lon"]}" hae="260" ce="8.5" le="9999999.0"/>'
    return f"<event {event}>{point}<detail>{given['detail']}</detail></event>"


def several(*events: str) -> bytes:
    return f"<events>{''.join(events)}</events>".encode()


def store(engine: Engine, *events: str, account: Account = FIELD) -> Any:
    return store_positions(engine, several(*events), account=account)


def shown(engine: Engine, account: Account = VIEWER, **more: Any) -> dict[str, Any]:
    return {f["id"]: f for f in list_teams(engine, account, **more)["features"]}


# --- what is refused at the door --------------------------------------------------------------

BOMB = "<!DOCTYPE a [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;&a;&a;'>]>"
HOSTILE = {
    "external entity": b"<!DOCTYPE e [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><event>&x;</event>",
    "external subset": b"<!DOCTYPE event SYSTEM 'http://127.0.0.1:9/x.dtd'><event/>",
    "entity bomb": f"{BOMB}<event>&b;</event>".encode(),
    "undeclared entity": b"<event>&nbsp;</event>",
    "instruction": b"<?xml-stylesheet href='x'?><event/>",
    "200k deep": b"<event>" * 140_000,
    "huge attribute": b'<event uid="' + b"x" * 900_000 + b'"/>',
    "attributes": b"<event " + b" ".join(b'a%d="1"' % i for i in range(50_000)) + b"/>",
    "duplicate attribute": b'<event uid="a" uid="b"/>',
    "huge text": b"<event>" + b"x" * 900_000 + b"</event>",
    "elements": b"<event>" + b"<a/>" * 200_000 + b"</event>",
    "events": b"<events>" + b"<event/>" * (EVENTS_MAX + 1) + b"</events>",
    "gbk": '<?xml version="1.0" encoding="GBK"?><event/>'.encode("gbk"),
    "utf-16": '<?xml version="1.0" encoding="UTF-16"?><event/>'.encode("utf-16"),
    "bytes that are no text": b'<event uid="\xff\xfe"/>',
    "nul": b"<event>\x00</event>",
    "cut": b"<event uid='a'>",
    "two documents": b"<event/><event/>",
    "another root": b"<html/>",
    "stranger inside": b"<events><html/></events>",
    "json": b'{"event": 1}',
    "empty": b"",
    "no event": b"<events/>",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_hostile_documents_are_refused_quickly(body: bytes, divided: Engine) -> None:
    began = time.thread_time()  # other threads of the process are servers of other tests
    with pytest.raises(InvalidInput) as refused:
        store_positions(divided, body, account=FIELD)
    assert time.thread_time() - began < 0.5
    assert "passwd" not in str(refused.value)
    with divided.connect() as connection:
        assert (
            connection.execute(
                text("SELECT count(*) FROM batch WHERE channel = 'cot'")
            ).scalar_one()
            == 0
        )


def test_as_deep_as_allowed_is_read_and_one_deeper_is_not() -> None:
    inside = DEPTH_MAX - 1
    body = b"<event>" + b"<a>" * inside + b"</a>" * inside + b"</event>"
    assert len(parse_events(body)) == 1
    with pytest.raises(TooLarge):
        parse_events(b"<event>" + b"<a>" * (inside + 1) + b"</a>" * (inside + 1) + b"</event>")


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("point.lat", {"lat": "NaN"}),
        ("point.lat", {"lat": "90.01"}),
        ("point.lat", {"lat": "1e999"}),
        ("point.lon", {"lon": "Infinity"}),
        ("point.lon", {"lon": "-180.1"}),
        ("point.lon", {"lon": ""}),
        ("point", {"lon": "0.0", "lat": "0"}),
        ("uid", {"uid": ""}),
        ("uid", {"uid": "x" * 129}),
        ("how", {"how": "by hand"}),
        ("time", {"time": "yesterday"}),
        ("time", {"time": "2026-11-21T00:30:00"}),
        ("start", {"start": "2026-02-30T00:00:00Z"}),
        ("stale", {"stale": "2020-01-01T00:00:00Z"}),
        ("type", {"type": "a-h-G"}),
        ("type", {"type": "b-m-p-s-m"}),
        ("type", {"type": "a-f-G'); DROP TABLE team"}),
    ],
)
def test_a_wrong_event_names_its_field(field: str, given: dict[str, str]) -> None:
    (event,) = parse_events(position(**given).encode())
    faults = read_position(event, 3)
    assert isinstance(faults, list)
    assert [(f.row, f.field) for f in faults] == [(3, field)]


def test_what_a_message_says_is_read_with_its_units() -> None:
    (event,) = parse_events(position().encode())
    read = read_position(event, 1)
    assert isinstance(read, Position)
    assert (read.callsign, read.group_name, read.group_role) == ("抢险一队", "Cyan", "Team Lead")
    assert (read.accuracy_m, read.height_m, read.battery_percent) == (8.5, 260.0, 81)
    assert (read.speed_mps, read.course_deg) == (2.5, 271.0)


def test_what_cannot_be_measured_is_unknown_and_keeps_no_position_out() -> None:
    detail = '<track speed="NaN" course="-1"/><status battery="900"/><contact callsign=" "/>'
    body = position("T-9", detail=detail).replace('ce="8.5"', 'ce="9999999.0"')
    (event,) = parse_events(body.encode())
    read = read_position(event, 1)
    assert isinstance(read, Position)
    assert (read.speed_mps, read.course_deg, read.battery_percent) == (None, None, None)
    assert (read.accuracy_m, read.callsign) == (None, "T-9")


# --- positions kept and shown -----------------------------------------------------------------


def test_good_rows_are_taken_bad_ones_listed_and_all_is_verified(divided: Engine) -> None:
    receipt = store(divided, position("A"), position("B", type="a-h-G"), position("C", lat="NaN"))
    assert (receipt.accepted, receipt.duplicates) == (1, 0)
    assert [(f.row, f.field) for f in receipt.rejected] == [(2, "type"), (3, "point.lat")]
    assert receipt.sequence > 0
    found = shown(divided)["A"]
    assert found["geometry"]["coordinates"] == list(INSIDE[YUZHONG])
    assert (found["properties"]["adcode"], found["properties"]["stale"]) == (YUZHONG, False)
    assert 59 <= found["properties"]["age_s"] < 90
    report = verify(divided)
    assert report.clean, report.lines()


def test_the_same_again_is_a_duplicate_and_another_body_a_conflict(divided: Engine) -> None:
    first = position("A")
    receipt = store(divided, first, first, first.replace("抢险", "医疗"))
    assert (receipt.accepted, receipt.duplicates, len(receipt.rejected)) == (1, 1, 1)
    again = store(divided, first)
    assert (again.accepted, again.duplicates, again.sequence) == (0, 1, receipt.sequence)
    assert store(divided, first.replace("抢险", "医疗")).rejected[0].field == "time"
    assert shown(divided)["A"]["properties"]["callsign"] == "抢险一队"


@pytest.mark.parametrize("together", [True, False])
def test_an_older_position_never_masks_a_newer_one(divided: Engine, together: bool) -> None:
    newer, older = position("A"), position("A", INSIDE[NANAN], 600)
    if together:
        store(divided, newer, older)
    else:
        store(divided, newer)
        assert store(divided, older).accepted == 1
    assert shown(divided)["A"]["properties"]["adcode"] == YUZHONG


def test_a_position_of_the_future_is_kept_and_never_applied(divided: Engine) -> None:
    receipt = store(
        divided, position("A"), position("A", INSIDE[NANAN], -400), position("F", None, -400)
    )
    assert (receipt.accepted, receipt.future) == (3, 2)
    assert {uid: f["properties"]["adcode"] for uid, f in shown(divided).items()} == {"A": YUZHONG}
    assert store(divided, position("A", INSIDE[SHAPINGBA], 1)).accepted == 1
    assert shown(divided)["A"]["properties"]["adcode"] == SHAPINGBA


def test_staleness_is_the_clocks(divided: Engine) -> None:
    store(divided, position("A", None, 400))
    assert shown(divided)["A"]["properties"]["stale"] is True


def test_a_district_sees_its_teams_and_a_sender_its_own(divided: Engine) -> None:
    store(divided, position("A"), position("B", INSIDE[NANAN]), position("C", (104.06, 30.66)))
    store(divided, position("D", INSIDE[SHAPINGBA]), account=OTHER)
    assert set(shown(divided)) == {"A", "B", "C", "D"}
    assert set(shown(divided, FIELD)) == {"A", "B", "C"}
    assert set(shown(divided, OTHER)) == {"D"}
    assert set(shown(divided, OTHER, at=datetime.now(UTC))) == {"D"}
    assert shown(divided)["C"]["properties"]["adcode"] is None
    assert set(shown(divided, bbox=(106.62, 29.50, 106.64, 29.52))) == {"B"}


def test_a_team_that_has_left_is_not_shown_where_it_was(divided: Engine) -> None:
    store(divided, position("A", INSIDE[SHAPINGBA], 120))
    assert set(shown(divided, OTHER)) == {"A"}
    then = datetime.now(UTC)
    store(divided, position("A"))
    assert shown(divided, OTHER) == {}
    assert shown(divided, OTHER, at=datetime.now(UTC)) == {}
    assert shown(divided, OTHER, at=then)["A"]["properties"]["adcode"] == SHAPINGBA


def test_a_uid_belongs_to_who_sent_it_first_except_for_commanders(divided: Engine) -> None:
    store(divided, position("A", None, 100))
    taken = store(divided, position("A", INSIDE[SHAPINGBA]), account=OTHER)
    assert (taken.accepted, taken.rejected[0].field) == (0, "uid")
    assert store(divided, position("A", INSIDE[SHAPINGBA], 50), account=COMMANDER).accepted == 1
    assert set(shown(divided, FIELD)) == {"A"}


def test_the_original_bytes_are_kept(divided: Engine) -> None:
    body = several(position("A", detail=f"<remarks>{'别的'}</remarks>"))
    store_positions(divided, body, account=FIELD)
    with divided.connect() as connection:
        row = connection.execute(
            text("SELECT body, account FROM batch WHERE channel = 'cot'")
        ).one()
    assert (bytes(row.body), row.account) == (body, "field")


@pytest.mark.parametrize(
    "wrong",
    [
        "geom = 'SRID=4326;POINT(NaN 1)'",
        "speed_mps = 'NaN'",
        "course_deg = 361",
        "battery_percent = 101",
        "accuracy_m = 'Infinity'",
        "stale_at = '2000-01-01'",
    ],
)
def test_the_database_keeps_impossible_positions_out(
    divided: Engine, divided_owner: Engine, wrong: str
) -> None:
    store(divided, position("A"))
    for table in ("team", "team_position"):
        with divided_owner.begin() as connection, pytest.raises(IntegrityError):
            connection.execute(text(f"UPDATE {table} SET {wrong}"))


# --- incidents out ----------------------------------------------------------------------------

WORDS = Wording({"elevator": "电梯"}, {YUZHONG: "渝中区"}, {3: "Ⅲ"}, {3: "#f0c000"}, "https://y")


def feature(state: str = "reported", **more: Any) -> dict[str, Any]:
    properties = {
        "incident_id": "0190b7a2-3c4d-7e5f-8a6b-1c2d3e4f5a6b",
        "plan": "special-equipment-2023",
        "kind": "elevator",
        "state": state,
        "possible": False,
        "occurred_at": "2026-11-21T08:30:00+08:00",
        "adcode": YUZHONG,
        "accuracy_m": 12.0,
        "address": "解放碑",
        "description": SCRIPT,
        "level": 3,
        "version": 2,
        "reporter": {"name": "王某", "phone": "13800000000"},
        "account": "field",
    } | more
    point = {"type": "Point", "coordinates": [106.5516, 29.563]}
    return {"geometry": point, "properties": properties}


def written(*features: dict[str, Any]) -> Any:
    return etree.parse(io.BytesIO(incidents_xml(features, ("reported",), NOW, WORDS))).getroot()


def test_an_incident_is_a_valid_event_with_escaped_text_and_no_reporter() -> None:
    root = written(feature(), feature(accuracy_m=None, level=None, adcode=None))
    assert (root.tag, len(root)) == ("events", 2)
    for event in root:
        SCHEMA.assertValid(event)
    event = root[0]
    assert (event.get("type"), event.get("how")) == ("b-m-p-s-m", "m-g")
    assert event.get("start") == "2026-11-21T00:30:00.000Z"
    assert event.get("stale") == "2026-11-21T01:15:00.000Z"
    point = event.find("point").attrib
    assert (point["lat"], point["lon"], point["ce"]) == ("29.5630000", "106.5516000", "12.0")
    assert point["hae"] == root[1].find("point").get("ce") == "9999999.0"
    assert event.find("detail/contact").get("callsign") == "Ⅲ 电梯 渝中区"
    assert SCRIPT.replace("\x00", "\ufffd") in event.find("detail/remarks").text
    assert len(event.find("detail/remarks")) == 0
    own = event.find("detail/__yutu").attrib
    assert (own["level"], own["state"], own["version"]) == ("3", "reported", "2")
    assert event.find("detail/color").get("argb") == "-999424"
    assert b"1380000" not in etree.tostring(root)
    assert "王某" not in etree.tostring(root, encoding="unicode")


def test_an_incident_that_is_over_arrives_stale_and_one_without_place_is_counted() -> None:
    root = written(feature("resolved"), feature() | {"geometry": None})
    assert (len(root), root.get("unplaced")) == (1, "1")
    assert root[0].get("stale") < root[0].get("time")


def test_a_tak_library_reads_what_we_write() -> None:
    xml = etree.tostring(written(feature())[0], encoding="unicode")
    message = takproto.parse_proto(takproto.xml2proto(xml, takproto.TAKProtoVer.MESH))
    event = message.cotEvent
    assert event.uid == "yutu-incident-0190b7a2-3c4d-7e5f-8a6b-1c2d3e4f5a6b"
    assert (event.type, event.how) == ("b-m-p-s-m", "m-g")
    assert (round(event.lat, 6), round(event.lon, 6), event.ce) == (29.563, 106.5516, 12.0)
    assert event.hae == 9999999.0
    assert event.staleTime - event.sendTime == 15 * 60 * 1000
    assert event.detail.contact.callsign == "Ⅲ 电梯 渝中区"
    assert "__yutu" in event.detail.xmlDetail


def test_our_own_markers_come_back_as_well_formed_and_are_rejected_as_positions() -> None:
    events = parse_events(incidents_xml([feature()], ("reported",), NOW, WORDS))
    faults = read_position(events[0], 1)
    assert isinstance(faults, list)
    assert [f.field for f in faults] == ["type"]
