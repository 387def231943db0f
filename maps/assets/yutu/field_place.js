// Where it happened: the phone's own position, a tap on the map, coordinates as they were given, or
// the code of a lift or facility. Typed text is sent as typed; the server reads it.

import { el } from "./dom.js";
import { PlaceMap, districtAt } from "./field_map.js";
import { unreadable } from "./field_position.js";

const SYSTEMS = ["WGS84", "GCJ-02", "BD-09", "CGCS2000", "EPSG:4544", "EPSG:4545", "EPSG:4546"];
const PAUSE_MS = 600; // what is still being typed is not marked
const RESCUE_CODE = /^\d{6}$/;
export const EMPTY_PLACE = { position: "", measured: null, crs: "WGS84", accuracy_m: null, rescue_code: "", facility_id: "" };

const plainText = (value) => String(value ?? "").normalize("NFKC").trim();

// What the server is told of the place, or the key of what is wrong with it.
export function placeOf(draft) {
  const place = {};
  if (draft.measured) Object.assign(place, { position: draft.measured, crs: "WGS84" });
  else if (draft.position.trim()) Object.assign(place, { position: draft.position.trim(), crs: draft.crs });
  if (draft.measured && draft.accuracy_m) place.accuracy_m = draft.accuracy_m;
  const code = plainText(draft.rescue_code).replace(/\s+/g, "");
  if (code && !RESCUE_CODE.test(code)) return { fault: "bad_rescue_code" };
  const facility = code || draft.facility_id.trim();
  if (facility) place.facility_id = facility;
  return { place };
}

// "106.5516，29.5630" → [106.5516, 29.5630]; null for every form only the server reads.
function decimalPair(text) {
  const parts = plainText(text).split(/\s*[,;、]\s*|\s+/);
  return parts.length === 2 && parts.every((one) => /^\d{1,3}(\.\d+)?$/.test(one)) ? parts.map(Number) : null;
}

export class PlacePicker {
  constructor({ say, draft, districts, kept }) {
    Object.assign(this, { say, draft, districts, kept });
    this.map = null;
  }

  nodes({ lift, typed }) {
    const { say, draft } = this;
    this.status = el("p", { cls: "place", attrs: { id: "place", role: "status" } });
    this.clearer = el("button", { cls: "plain dark", text: say("clear_place"), attrs: { type: "button", id: "clear-place" }, on: { click: () => this.#clear() } });
    this.mapNode = el("div", { cls: "map", attrs: { id: "place-map" } });
    this.text = el("input", {
      attrs: { id: "position", type: "text", maxlength: 200, autocomplete: "off", spellcheck: "false", placeholder: say("position_example"), "aria-describedby": "position-hint" },
      on: {
        input: () => {
          Object.assign(draft, { position: this.text.value, measured: null, accuracy_m: null });
          this.show();
          clearTimeout(this.timer);
          this.timer = setTimeout(() => this.#mark(), PAUSE_MS);
        },
        change: () => this.#mark(),
      },
    });
    this.text.value = draft.position;
    this.hint = el("span", { cls: "why mild", attrs: { id: "position-hint", role: "status" } });
    this.system = el("select", { attrs: { id: "crs" }, on: { change: () => {
      Object.assign(draft, { crs: this.system.value, measured: null, accuracy_m: null });
      this.show();
    } } }, SYSTEMS.map((one) => el("option", { text: say(`crs_${one}`), attrs: { value: one } })));
    this.system.value = draft.crs;
    const others = el("details", { attrs: { id: "typed" } }, el("summary", { text: say("other_ways") }),
      el("div", { cls: "numbers" },
        el("label", {}, el("span", { text: say("position") }), this.text, this.hint, el("span", { cls: "quiet", text: say("position_forms") })),
        el("label", {}, el("span", { text: say("crs") }), this.system),
        this.#code("facility_id", { maxlength: 128, autocapitalize: "characters" })));
    others.open = typed;
    this.#mark();
    return [
      lift ? this.#code("rescue_code", { maxlength: 12, inputmode: "numeric", cls: "code" }) : null,
      el("button", { cls: "wide strong", text: say("locate"), attrs: { type: "button", id: "locate" }, on: { click: () => this.#locate() } }),
      el("div", { cls: "placed" }, this.status, this.clearer),
      el("details", { on: { toggle: (event) => event.target.open && this.#openMap() } },
        el("summary", { text: say("tap"), attrs: { id: "tap" } }), this.mapNode),
      others,
    ].filter(Boolean);
  }

  #code(name, { cls = "", ...attrs }) {
    const control = el("input", {
      cls, attrs: { id: name.replace("_", "-"), type: "text", autocomplete: "off", spellcheck: "false", ...attrs },
      on: { input: () => { this.draft[name] = control.value; this.show(); } },
    });
    control.value = this.draft[name];
    return el("label", { cls: "fact" }, el("span", { text: this.say(name) }), control);
  }

  // A hint, never a refusal: the server may know more.
  #mark() {
    const marked = unreadable(this.draft.position);
    this.hint.textContent = marked ? this.say("position_unreadable") : "";
    this.text.setAttribute("aria-invalid", String(marked));
    if (marked) this.status.textContent = this.say("place_unread"); // never beside "typed"
  }

  #locate() {
    const failed = () => { this.status.textContent = this.say("locate_failed"); };
    this.status.textContent = this.say("locating");
    if (!navigator.geolocation) return failed();
    navigator.geolocation.getCurrentPosition(
      ({ coords }) => this.#set(coords.longitude, coords.latitude, Math.ceil(coords.accuracy), true),
      failed, { enableHighAccuracy: true, timeout: 20000, maximumAge: 10000 });
  }

  #set(lon, lat, accuracy_m, near) {
    const measured = [lon, lat].map((one) => Number(one.toFixed(6)));
    Object.assign(this.draft, { measured, position: measured.join(","), crs: "WGS84", accuracy_m });
    this.#filled(near);
  }

  #clear() {
    Object.assign(this.draft, { measured: null, position: "", crs: "WGS84", accuracy_m: null });
    this.#filled(false);
  }

  #filled(near) {
    this.text.value = this.draft.position;
    this.system.value = this.draft.crs;
    this.#mark();
    this.show(near);
    this.kept();
  }

  #openMap() {
    const districts = this.districts();
    if (!districts || !globalThis.L) {
      this.mapNode.textContent = this.say("map_missing");
      return;
    }
    this.map ??= new PlaceMap(this.mapNode, districts, (lon, lat, accuracy) => this.#set(lon, lat, accuracy, false),
      () => { this.status.textContent = this.say("tap_again"); });
    this.show();
  }

  show(near = true) {
    const { say, draft } = this;
    const given = Boolean(draft.position.trim());
    if (this.hint.textContent && !unreadable(draft.position)) this.#mark(); // mended: at once
    this.clearer.hidden = !given;
    const wgs = draft.crs === "WGS84" || draft.crs === "CGCS2000";
    const pair = given && wgs ? (draft.measured ?? decimalPair(draft.position)) : null;
    if (pair) this.map?.show(...pair, near);
    else this.map?.hide();
    if (!given) {
      const code = draft.rescue_code?.trim() || draft.facility_id.trim();
      this.status.textContent = say(code ? "place_by_code" : "no_place");
      return;
    }
    if (this.hint.textContent) {
      this.status.textContent = say("place_unread");
      return;
    }
    const district = pair ? districtAt(this.districts(), ...pair) : null;
    const name = pair && this.districts() ? (district?.properties.name ?? say("outside")) : say("typed_place");
    this.status.textContent = [name, pair?.join("，"), draft.accuracy_m ? say("accuracy", { m: draft.accuracy_m }) : null]
      .filter(Boolean).join(" · ");
  }
}
