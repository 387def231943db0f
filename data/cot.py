"""Cursor on Target (CoT) 2.0, the XML that ATAK, WinTAK, iTAK and TAK servers exchange.

Read: a document is refused while it is being parsed, before anything is built from it, when it has
a DTD, entities or processing instructions, is not UTF-8, or goes beyond the limits below. Written:
incidents as spot markers (`b-m-p-s-m`), because every `a-…` type says friend or foe and an accident
is neither. Positions are WGS-84 in both directions, as CoT has them; lengths are metres.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree as ET
from xml.parsers import expat

import orjson

from geo.errors import Fault, InvalidInput, TooLarge

EVENTS_MAX = 1000
DEPTH_MAX = 16
ELEMENTS_MAX = 50_000
#: Of one event; a shape drawn by hand has some hundred.
EVENT_ELEMENTS_MAX = 2_000
ATTRIBUTES_MAX = 64
VALUE_CHARACTERS_MAX = 8192

#: What CoT writes where a number is not known.
UNKNOWN = "9999999.0"
INCIDENT_TYPE = "b-m-p-s-m"
#: A client that stops asking drops what it has after this long; one that asks is given it anew.
OPEN_LASTS = timedelta(minutes=15)

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass
class Element:
    """One element as read: name, attributes, elements inside, text."""

    name: str
    attributes: dict[str, str]
    inside: list[Element] = field(default_factory=list)
    text: str = ""

    def find(self, *names: str) -> Element | None:
        """The first element on this path."""
        found: Element | None = self
        for name in names:
            found = next((e for e in found.inside if e.name == name), None) if found else None
        return found

    def get(self, path: str, attribute: str) -> str | None:
        """An attribute of the element at `path` (`detail/contact`), None where either lacks."""
        found = self.find(*path.split("/"))
        return None if found is None else found.attributes.get(attribute)

    def sha256(self) -> bytes:
        """Of names, attributes by name, and text without blanks at its ends: the same message."""
        return hashlib.sha256(orjson.dumps(self._form(), option=orjson.OPT_SORT_KEYS)).digest()

    def _form(self) -> list[Any]:
        return [self.name, self.attributes, self.text.strip(), [e._form() for e in self.inside]]


class _Reader:
    """Expat's handlers; what lies beyond a limit ends the parsing at once."""

    def __init__(self) -> None:
        self.events: list[Element] = []
        self._open: list[Element] = []
        self._elements = 0
        self._of_event = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if len(self._open) >= DEPTH_MAX:
            raise TooLarge(f"elements stand more than {DEPTH_MAX} deep in each other")
        if self._elements > ELEMENTS_MAX:
            raise TooLarge(f"has more than {ELEMENTS_MAX} elements")
        self._of_event += 1
        if self._of_event > EVENT_ELEMENTS_MAX:
            raise TooLarge(f"an event has more than {EVENT_ELEMENTS_MAX} elements")
        if len(attributes) > ATTRIBUTES_MAX:
            raise TooLarge(f"an element has more than {ATTRIBUTES_MAX} attributes")
        if any(len(value) > VALUE_CHARACTERS_MAX for value in attributes.values()):
            raise TooLarge(f"an attribute is longer than {VALUE_CHARACTERS_MAX} characters")
        if not self._open and name not in ("event", "events"):
            raise InvalidInput("the document is one <event>, or <events> with several inside")
        element = Element(name, attributes)
        is_event = not self._open or (len(self._open) == 1 and self._open[0].name == "events")
        if is_event and name == "event":
            if len(self.events) >= EVENTS_MAX:
                raise TooLarge(f"at most {EVENTS_MAX} events in one document")
            self.events.append(element)
            self._of_event = 0
        elif is_event and self._open:
            raise InvalidInput("<events> holds only <event>")
        elif self._open:
            self._open[-1].inside.append(element)
        self._open.append(element)

    def end(self, name: str) -> None:
        self._open.pop()

    def text(self, text: str) -> None:
        if self._open:
            element = self._open[-1]
            if len(element.text) + len(text) > VALUE_CHARACTERS_MAX:
                raise TooLarge(f"a text is longer than {VALUE_CHARACTERS_MAX} characters")
            element.text += text


def _refuse_dtd(*_: Any) -> None:
    raise InvalidInput("a document type or entity is not accepted")


def _refuse_instruction(*_: Any) -> None:
    raise InvalidInput("a processing instruction is not accepted")


def _declared(_version: str, encoding: str | None, _standalone: int) -> None:
    if encoding is not None and encoding.lower() not in ("utf-8", "utf8", "us-ascii"):
        raise InvalidInput("the encoding must be UTF-8")


def parse_events(body: bytes) -> list[Element]:
    """The `<event>` elements of a document, in order. Raises InvalidInput, TooLarge (limits)."""
    reader = _Reader()
    parser = expat.ParserCreate("UTF-8")
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse_dtd
    parser.EntityDeclHandler = _refuse_dtd
    parser.ProcessingInstructionHandler = _refuse_instruction
    parser.XmlDeclHandler = _declared
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        known = expat.ErrorString(error.code) or "not well-formed"
        raise InvalidInput([Fault(f"is not XML: {known}", error.lineno)]) from None
    return reader.events


# --- incidents out ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Wording:
    """How incidents are called and coloured: kinds by code, districts by adcode, ROMAN numerals and
    #rrggbb by level, and the address before `/v1/incidents`."""

    kinds: Mapping[str, str]
    districts: Mapping[str, str]
    labels: Mapping[int, str]
    colours: Mapping[int, str]
    base_url: str


def incidents_xml(
    features: Iterable[Mapping[str, Any]], open_states: Iterable[str], now: datetime, words: Wording
) -> bytes:
    """An `<events>` document of incidents as `data.incidents` gives them, which keeps reporters
    out. CoT cannot say "somewhere": incidents without a position are counted in `unplaced`."""
    root = ET.Element("events")
    unplaced = 0
    for feature in features:
        if feature["geometry"] is None:
            unplaced += 1
        else:
            root.append(incident_event(feature, frozenset(open_states), now, words))
    root.set("events", str(len(root)))
    root.set("unplaced", str(unplaced))
    written: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def incident_event(
    feature: Mapping[str, Any], open_states: frozenset[str], now: datetime, words: Wording
) -> ET.Element:
    """One placed incident. Over ones are stale as they arrive, so that clients drop them."""
    p = feature["properties"]
    lon, lat = feature["geometry"]["coordinates"]
    is_open = p["state"] in open_states
    began = min(datetime.fromisoformat(p["occurred_at"]), now)
    accuracy = p["accuracy_m"]
    event = _element(
        "event",
        version="2.0",
        uid=f"yutu-incident-{p['incident_id']}",
        type=INCIDENT_TYPE,
        time=_time(now),
        start=_time(began),
        stale=_time(now + OPEN_LASTS if is_open else now - timedelta(seconds=1)),
        how="h-e" if accuracy is None else "m-g",
    )
    event.append(
        _element(
            "point",
            lat=f"{lat:.7f}",
            lon=f"{lon:.7f}",
            hae=UNKNOWN,
            ce=UNKNOWN if accuracy is None else f"{accuracy:.1f}",
            le=UNKNOWN,
        )
    )
    event.append(_detail(p, words))
    return event


def _detail(p: Mapping[str, Any], words: Wording) -> ET.Element:
    level = p.get("level")
    label = words.labels.get(level, "") if level is not None else ""
    kind = words.kinds.get(p["kind"], p["kind"])
    district = words.districts.get(p["adcode"] or "", "")
    callsign = " ".join(part for part in (label, kind, district) if part)
    detail = ET.Element("detail")
    detail.append(_element("contact", callsign=callsign))
    remarks = _element("remarks", source="Yutu")
    told = (callsign, p["plan"], p["state"], p.get("address"), p.get("description"))
    remarks.text = _clean("\n".join(str(part) for part in told if part))
    detail.append(remarks)
    url = f"{words.base_url}/v1/incidents/{p['incident_id']}"
    uid = f"yutu-incident-{p['incident_id']}"
    detail.append(_element("link", uid=uid, type=INCIDENT_TYPE, relation="r-u", url=url))
    argb = _argb(words.colours.get(level, "#47566d") if level is not None else "#47566d")
    detail.append(_element("color", argb=argb))
    detail.append(_element("usericon", iconsetpath=f"COT_MAPPING_SPOTMAP/{INCIDENT_TYPE}/{argb}"))
    own = {name: p.get(name) for name in ("incident_id", "plan", "kind", "level", "state")}
    own |= {"version": p["version"], "adcode": p["adcode"], "possible": str(p["possible"]).lower()}
    detail.append(_element("__yutu", **{k: str(v) for k, v in own.items() if v is not None}))
    return detail


def _element(name: str, **attributes: str) -> ET.Element:
    return ET.Element(name, {key: _clean(value) for key, value in attributes.items()})


def _clean(value: str) -> str:
    """Characters that XML 1.0 cannot hold at all, even escaped, become U+FFFD."""
    return _NOT_XML.sub("\ufffd", value)


def _time(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _argb(colour: str) -> str:
    """#rrggbb as Android has colours: alpha, red, green, blue in one signed 32-bit integer."""
    return str(int(f"ff{colour[1:]}", 16) - 2**32)
