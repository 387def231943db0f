// Finding facilities by name or id, to suppose something of them.

import { el, integer, replace } from "./dom.js";
import { words } from "./planner_api.js";

const LISTED_MAX = 50;
const COLUMNS = "facility_id,name,kind,operator,state,adcode";

export class FacilityFinder {
  constructor({ api, url, say, kinds, nameOf, bbox }) {
    Object.assign(this, { api, url, say, kinds, nameOf, bbox });
    this.turn = 0;
    document.getElementById("find-go").addEventListener("click", () => this.find());
    document.getElementById("find").addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault(); // else the form around it adds a change
      this.find();
    });
  }

  // The box can only be searched when there is one.
  regionChanged() {
    document.getElementById("find-inside-label").hidden = !this.bbox();
  }

  async find() {
    const turn = (this.turn += 1);
    const error = document.getElementById("error-find");
    error.textContent = "";
    replace(document.getElementById("found"), el("p", { cls: "quiet", text: this.say("working") }));
    let rows = [];
    try {
      rows = (await this.api.get(`${this.url}?${this.#query()}`)).features ?? [];
    } catch (refusal) {
      error.textContent = words(refusal, this.say);
    }
    if (turn === this.turn) this.#show(rows.map((one) => one.properties), Boolean(error.textContent));
  }

  #query() {
    const text = document.getElementById("find").value.trim().replace(/'/g, "''").replace(/[\\%_]/g, "\\$&");
    const kind = document.getElementById("find-kind").value;
    const box = document.getElementById("find-inside").checked ? this.bbox() : null;
    const parts = [text ? `(name LIKE '%${text}%' OR facility_id LIKE '%${text}%')` : null, kind ? `kind = '${kind}'` : null].filter(Boolean);
    // with `geom-column=none` tipg would leave `bbox` out
    const query = new URLSearchParams({ f: "geojson", limit: String(LISTED_MAX), properties: COLUMNS });
    if (parts.length) {
      query.set("filter-lang", "cql2-text");
      query.set("filter", parts.join(" AND "));
    }
    if (box) query.set("bbox", box.join(","));
    return query;
  }

  #show(rows, failed) {
    const root = document.getElementById("found");
    if (!rows.length) {
      replace(root, failed ? null : el("p", { cls: "quiet", text: this.say("find_none") }));
      return;
    }
    const list = el("ul", { cls: "found" }, rows.map((row) => el("li", {}, this.#row(row))));
    replace(root, list, rows.length >= LISTED_MAX ? el("p", { cls: "quiet", text: this.say("find_more", { n: integer(LISTED_MAX) }) }) : null);
  }

  #row(row) {
    const box = el("input", { attrs: { type: "checkbox", value: row.facility_id }, on: { change: (event) => this.#pick(row.facility_id, event.target.checked) } });
    box.checked = this.#chosen().includes(row.facility_id);
    const about = [row.facility_id, this.kinds[row.kind] ?? row.kind, row.operator, row.adcode ? this.nameOf(row.adcode) : this.say("outside_city")].filter(Boolean).join(" · ");
    return el("label", {}, box, el("span", {}, el("span", { text: row.name ?? row.facility_id }), el("span", { cls: "quiet", text: about })));
  }

  // Ticking writes the id into the list below, where it can also be typed.
  #pick(id, on) {
    const rest = this.#chosen().filter((one) => one !== id);
    document.getElementById("ids").value = (on ? [...rest, id] : rest).join("\n");
  }

  #chosen() {
    return document.getElementById("ids").value.split(/[\s,，;；、]+/).filter(Boolean);
  }
}
