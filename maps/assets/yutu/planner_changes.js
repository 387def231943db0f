// What is supposed: a list of changes, each put together by a small form and told in words.

import { el, integer, replace } from "./dom.js";

const SEPARATORS = /[\s,，;；、]+/;

export class Changes {
  // `region` gives {body, kind} of the region chosen, `bbox` its box.
  constructor({ say, kinds, nameOf, faults, region, onChange }) {
    Object.assign(this, { say, kinds, nameOf, faults, region, onChange });
    this.list = [];
    this.counts = [];
    this.form = document.getElementById("change-form");
    this.#wire();
    this.#showForm();
    this.draw();
  }

  set(list) {
    this.list = list;
    this.counts = [];
    this.draw();
    this.onChange();
  }

  // Each change with how many facilities it found; those that select nothing have no count.
  counted(selected) {
    let next = 0;
    this.counts = this.list.map((change) => (selects(change) ? (selected[next++] ?? null) : null));
    this.draw();
  }

  // Faults of a row stand at that row; true for those that found a place.
  faultAt(row, reason) {
    const node = document.getElementById(`error-change-${row}`);
    if (node) node.textContent = [node.textContent, reason].filter(Boolean).join("\n");
    return Boolean(node);
  }

  // The choices that depend on the region: its operators and its open outages.
  offer(answer) {
    const operators = new Set(Object.values(answer?.facilities ?? {}).flatMap((kind) => Object.keys(kind.operators)));
    const select = this.#field("change-operator");
    const before = select.value;
    replace(select, el("option", { text: this.say("all_operators"), attrs: { value: "" } }), [...operators].filter(Boolean).sort().map((one) => el("option", { text: one, attrs: { value: one } })));
    select.value = operators.has(before) ? before : "";
    replace(this.#field("outages-known"), (answer?.outages ?? []).map((one) => el("option", { attrs: { value: one.outage_id } })));
  }

  draw() {
    const root = document.getElementById("changes");
    if (!this.list.length) {
      replace(root, el("p", { cls: "quiet", text: this.say("no_changes") }));
      return;
    }
    const rows = this.list.map((change, index) =>
      el(
        "li",
        {},
        el("span", { cls: "what", text: this.words(change) }),
        this.#count(index),
        el("button", { cls: "place", text: this.say("remove"), attrs: { type: "button", "aria-label": `${this.say("remove")}: ${this.words(change)}` }, on: { click: () => this.#remove(index) } }),
        el("p", { cls: "error", attrs: { id: `error-change-${index + 1}`, role: "alert" } }),
      ),
    );
    replace(root, el("h3", { cls: "section", text: this.say("changes", { n: this.list.length }) }), el("ol", { cls: "changes" }, rows));
  }

  words(change) {
    const { say } = this;
    const names = (ids) => `${ids.slice(0, 4).join(say("comma"))}${ids.length > 4 ? `… (${integer(ids.length)})` : ""}`;
    const state = say(`state_${change.state}`);
    if (change.incident) {
      const { kind, facts, adcode, minute } = change.incident;
      return say("incident_of", { kind: this.kinds[kind] ?? kind ?? "", n: integer(facts?.people_stranded ?? 0), where: adcode ? this.nameOf(adcode) : "—", minute: minute ?? 0 });
    }
    if (change.outage) {
      const told = change.outage.properties ?? change.outage;
      return say("outage_of", { load: integer(told.load_shed_kw ?? 0), customers: integer(told.customers_out ?? 0) });
    }
    if (change.restore) {
      if (change.restore.outages) return say("outage_ends", { names: names(change.restore.outages) });
      return this.words({ ...change.restore, state: "up" });
    }
    if (change.facilities) return say("facilities_named", { names: names(change.facilities), state });
    const what = [change.operator, change.kind ? (this.kinds[change.kind] ?? change.kind) : say("all_kinds")].filter(Boolean).join(" ");
    const where = change.adcodes ? change.adcodes.map(this.nameOf).join(say("comma")) : this.#place(change);
    if (change.adcodes || change.footprint) return say("facilities_in", { where, what, state });
    return say("anything_else");
  }

  #place(change) {
    if (change.radius_m) return this.say("region_circle", { m: Math.round(change.radius_m) });
    if (change.buffer_m) return this.say("region_line", { m: Math.round(change.buffer_m) });
    return this.say("region_polygon");
  }

  #count(index) {
    const count = this.counts[index];
    return count ? el("span", { cls: "quiet", text: this.say("found_count", { n: integer(count.facilities), m: integer(count.changed) }) }) : null;
  }

  #remove(index) {
    this.set(this.list.filter((_, at) => at !== index));
    this.form.querySelector("#form").focus();
  }

  #wire() {
    this.#field("form").addEventListener("change", () => this.#showForm());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.faults.clear();
      const change = this.#read();
      if (change) this.set([...this.list, change]);
    });
  }

  #showForm() {
    const form = this.#field("form").value;
    for (const part of this.form.querySelectorAll("[data-form]")) part.hidden = !part.dataset.form.split(" ").includes(form);
    this.faults.clear();
  }

  // The change the form describes, or null when something is missing, which is then said.
  #read() {
    const form = this.#field("form").value;
    const state = this.form.querySelector('input[name="state"]:checked').value;
    return { region: () => this.#inRegion(state), facilities: () => this.#named(state), outage: () => this.#outage(), restore: () => this.#restore(), incident: () => this.#incident() }[form]();
  }

  #inRegion(state) {
    const { body } = this.region();
    if (!body) return this.#missing("change", "need_region");
    const kind = this.#field("change-kind").value;
    const operator = this.#field("change-operator").value;
    if (body.adcodes && !kind) return this.#missing("kind", "need_kind");
    const { geometry, ...rest } = body;
    return { ...rest, ...(geometry ? { footprint: geometry } : {}), ...(kind ? { kind } : {}), ...(operator ? { operator } : {}), state };
  }

  #named(state) {
    const ids = [...new Set(this.#field("ids").value.split(SEPARATORS).filter(Boolean))];
    if (!ids.length) return this.#missing("facilities", "need_ids");
    this.#field("ids").value = "";
    return { facilities: ids, state };
  }

  #outage() {
    const { body } = this.region();
    if (!body) return this.#missing("change", "need_region");
    if (!body.geometry || body.radius_m || body.buffer_m) return this.#missing("change", "need_area");
    const [load, customers] = ["load_shed_kw", "customers_out"].map((id) => this.#field(id).valueAsNumber);
    if (Number.isNaN(load)) return this.#missing("load_shed_kw", "need_number");
    if (Number.isNaN(customers)) return this.#missing("customers_out", "need_number");
    return { outage: { geometry: body.geometry, crs: body.crs, load_shed_kw: load, customers_out: customers } };
  }

  #restore() {
    const id = this.#field("outage_id").value.trim();
    if (!id) return this.#missing("outage_id", "need_outage");
    return { restore: { outages: [id] } };
  }

  #incident() {
    const [people, minute] = ["people_stranded", "minute"].map((id) => this.#field(id).valueAsNumber);
    if (Number.isNaN(people)) return this.#missing("people_stranded", "need_number");
    return { incident: { kind: this.#field("incident-kind").value, adcode: this.#field("incident-adcode").value, facts: { people_stranded: people }, minute: minute || 0 } };
  }

  #missing(field, key) {
    this.faults.at(field, this.say(key));
    return null;
  }

  #field(id) {
    return document.getElementById(id);
  }
}

// Whether the API counts facilities for it.
function selects(change) {
  return Boolean(change.facilities || change.adcodes || change.footprint || (change.restore && !change.restore.outages));
}
