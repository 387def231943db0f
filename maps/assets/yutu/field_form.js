// The form: what, the few facts it needs, when, where, photos. A draft is plain data, so that a
// refused report can be opened again as it was filled in.

import { el, replace } from "./dom.js";
import { EMPTY_PLACE, PlacePicker, placeOf } from "./field_place.js";
import { reasons } from "./field_queue.js";

const KEEP_MS = 300;

export function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // without HTTPS
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = Array.from(bytes, (one) => one.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

export function emptyDraft(plan) {
  return {
    plan, kind: null, facts: {}, occurred_at: null, ...EMPTY_PLACE,
    address: "", description: "", device_time: null,
  };
}

// The moment in the value of a datetime-local control, which is in the device's own zone.
const moment = (value) => (value ? new Date(value).toISOString() : null);
function local(iso) {
  if (!iso) return "";
  const date = new Date(iso);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
}

// A draft as the server takes it, or the key of what is missing.
export function bodyOf(draft, incident_id) {
  if (!draft.kind) return { fault: "choose_kind" };
  const body = {
    incident_id, plan: draft.plan, kind: draft.kind, occurred_at: draft.occurred_at,
    device_time: draft.device_time, source: "field-page",
  };
  const { place, fault } = placeOf(draft);
  if (fault) return { fault };
  if (!place.position && !place.facility_id && !draft.address.trim()) return { fault: "no_where" };
  Object.assign(body, place);
  for (const name of ["address", "description"]) if (draft[name].trim()) body[name] = draft[name].trim();
  if (Object.keys(draft.facts).length) body.facts = draft.facts;
  return { body };
}

export class Form {
  // `changed(draft)` while a new report is filled in; `cleared(mended)` when the form is empty again
  constructor(node, { say, plans, districts, submit, changed, cleared }) {
    Object.assign(this, { node, say, plans, districts, submit, changed, cleared });
    this.touched = false;
    // before the buttons' own handlers, one of which empties the form
    for (const event of ["input", "click"]) node.addEventListener(event, () => this.#touch(), true);
    this.#empty();
  }

  clear() {
    const mended = Boolean(this.mending);
    this.#empty();
    this.touched = false;
    clearTimeout(this.timer);
    this.cleared(mended);
  }

  #empty() {
    this.open(emptyDraft(this.plans()[0].plan), null, []);
  }

  #touch() {
    this.touched = true;
    this.node.querySelector("#fault")?.replaceChildren();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => !this.mending && this.changed(this.draft), KEEP_MS);
  }

  // `mending`: the report that is being mended; `photos` those it has already
  open(draft, mending, photos) {
    this.draft = { ...emptyDraft(draft.plan), ...structuredClone(draft) };
    if (draft.lon) this.draft.position ||= `${draft.lon},${draft.lat}`; // kept by an older page
    this.mending = mending;
    this.kept = photos;
    this.files = [];
    this.render();
  }

  render() {
    const { say, draft } = this;
    const plan = this.plans().find((one) => one.plan === draft.plan);
    const kind = plan.kinds.find((one) => one.kind === draft.kind);
    const place = new PlacePicker({ say, draft, districts: this.districts, kept: () => this.#touch() });
    replace(
      this.node,
      el("form", { attrs: { novalidate: "" }, on: { submit: (event) => this.#submit(event) } },
        this.mending
          ? el("div", { cls: "returned", attrs: { id: "returned" } }, el("b", { text: say("returned") }),
            el("ul", {}, reasons(this.mending.problem, say).map((text) => el("li", { text }))))
          : null,
        this.#choice("plans", this.plans().map((one) => [one.plan, say(`plan_${one.plan}`)]), draft.plan, (value) => {
          Object.assign(draft, { plan: value, kind: null, facts: {}, rescue_code: "" });
          this.render();
        }),
        el("h2", { text: say("kind") }),
        this.#choice("kinds", plan.kinds.map((one) => [one.kind, one.name]), draft.kind, (value) => {
          Object.assign(draft, { kind: value, facts: {}, rescue_code: "" });
          this.render();
        }),
        kind?.facts.length ? el("h2", { text: say("facts") }) : null,
        ...(kind?.facts ?? []).map((fact) => this.#fact(fact)),
        el("h2", { text: say("when") }),
        this.#when(),
        el("h2", { text: say("where") }),
        ...place.nodes({ lift: draft.kind === "elevator", typed: Boolean(this.mending || draft.facility_id || (draft.position && !draft.measured)) }),
        this.#text("address", "input", 500),
        this.#text("description", "textarea", 10000),
        el("h2", { text: say("photos") }),
        ...this.#photos(),
        el("p", { cls: "fault", attrs: { id: "fault", role: "alert" } }),
        el("button", { cls: "send", text: say(this.mending ? "resend" : "send"), attrs: { type: "submit" } }),
        this.mending
          ? el("button", { cls: "wide", text: say("cancel"), attrs: { type: "button" }, on: { click: () => this.clear() } })
          : null,
      ),
    );
    place.show();
  }

  #choice(cls, pairs, chosen, pick) {
    return el("div", { cls: `choice ${cls}`, attrs: { role: "group" } },
      pairs.map(([value, text]) =>
        el("button", {
          text, data: { value }, attrs: { type: "button", "aria-pressed": value === chosen },
          on: { click: () => pick(value) },
        })));
  }

  #fact({ name, type, title }) {
    const { facts } = this.draft;
    const set = (value) => {
      if (value === null) delete facts[name];
      else facts[name] = value;
    };
    const id = `fact-${name}`;
    if (type === "boolean") {
      const values = { yes: true, no: false, unknown: null };
      const group = el("div", { cls: "fact", attrs: { id } }, el("span", { text: title }));
      const draw = () => {
        const now = facts[name] === undefined ? "unknown" : facts[name] ? "yes" : "no";
        const pairs = Object.keys(values).map((key) => [key, this.say(key)]);
        group.querySelector(".choice")?.remove();
        group.append(this.#choice("three", pairs, now, (key) => { set(values[key]); draw(); }));
      };
      draw();
      return group;
    }
    const timed = !["integer", "number"].includes(type);
    const control = el("input", {
      attrs: timed
        ? { id, type: "datetime-local", value: local(facts[name]) }
        : { id, type: "text", inputmode: type === "integer" ? "numeric" : "decimal", value: facts[name] ?? "", autocomplete: "off" },
      on: {
        input: (event) => {
          const value = event.target.value.trim();
          if (timed) set(moment(value));
          else set(value === "" ? null : Number.isFinite(Number(value)) ? Number(value) : value);
        },
      },
    });
    return el("label", { cls: "fact" }, el("span", { text: title }), control);
  }

  #when() {
    const { draft } = this;
    const earlier = el("input", {
      attrs: { type: "datetime-local", id: "occurred-at", "aria-label": this.say("earlier"), value: local(draft.occurred_at) },
      on: { input: (event) => { draft.occurred_at = moment(event.target.value); } },
    });
    earlier.hidden = !draft.occurred_at;
    const box = el("div", { cls: "when" });
    const draw = (now) => {
      earlier.hidden = now;
      replace(box, this.#choice("two", [["now", this.say("now")], ["earlier", this.say("earlier")]], now ? "now" : "earlier", (value) => {
        if (value === "now") { draft.occurred_at = null; earlier.value = ""; }
        draw(value === "now");
      }), earlier);
    };
    draw(!draft.occurred_at);
    return box;
  }

  #text(name, tag, most) {
    return el("label", { cls: "text" }, el("span", { text: this.say(name) }),
      this.#filled(el(tag, {
        attrs: { id: name, maxlength: most, rows: tag === "textarea" ? 3 : null },
        on: { input: (event) => { this.draft[name] = event.target.value; } },
      }), this.draft[name]));
  }

  #filled(control, value) {
    control.value = value;
    return control;
  }

  #photos() {
    const list = el("ul", { cls: "photos", attrs: { id: "photos" } });
    const draw = () => replace(list, this.files.map((file, index) => {
      const url = URL.createObjectURL(file);
      const image = el("img", { attrs: { src: url, alt: file.name }, on: { load: () => URL.revokeObjectURL(url) } });
      const drop = el("button", { text: this.say("remove"), attrs: { type: "button" }, on: { click: () => { this.files.splice(index, 1); draw(); } } });
      return el("li", {}, image, drop);
    }), this.kept.map((photo) => el("li", { text: photo.name })));
    const picker = (id, key, more) =>
      el("label", { cls: "wide button" }, el("span", { text: this.say(key) }), el("input", {
        cls: "hidden-file", attrs: { id, type: "file", accept: "image/*", ...more },
        on: { change: (event) => { this.files.push(...event.target.files); event.target.value = ""; draw(); } },
      }));
    draw();
    return [
      el("div", { cls: "pickers" }, picker("camera", "take_photo", { capture: "environment" }), picker("album", "choose_photo", { multiple: "" })),
      list,
    ];
  }

  async #submit(event) {
    event.preventDefault();
    const button = this.node.querySelector(".send");
    if (button.disabled) return;
    button.disabled = true; // a second tap is not a second report
    const now = new Date().toISOString();
    const draft = { ...this.draft, occurred_at: this.draft.occurred_at ?? now, device_time: this.draft.device_time ?? now };
    try {
      const fault = await this.submit(draft, this.files, this.mending);
      if (fault) this.node.querySelector("#fault").textContent = this.say(fault);
      else this.clear();
    } finally {
      button.disabled = false;
    }
  }
}
