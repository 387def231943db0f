// Scenarios that someone kept: opened, shared, retired, and two of them compared.

import { dayAndTime, el, replace } from "./dom.js";
import { words } from "./planner_api.js";

export class Saved {
  // `result` draws levels and districts of a comparison; `onOpen` takes a whole scenario.
  constructor({ api, url, at, say, username, result, onOpen }) {
    Object.assign(this, { api, url, at, say, username, result, onOpen });
    this.rows = [];
    this.picked = new Set();
    this.root = document.getElementById("saved-list");
    document.getElementById("reload").addEventListener("click", () => this.load());
    document.getElementById("compare").addEventListener("click", () => this.compare());
  }

  // The scenario that was just saved: shown apart, and where the keyboard goes on.
  mark(id) {
    this.fresh = id;
  }

  async load() {
    if (!this.rows.length) this.#busy(this.root, "saved_reading");
    await this.#try(async () => {
      this.rows = (await this.api.get(this.url)).scenarios;
      const there = new Set(this.rows.map((row) => row.scenario_id));
      this.picked = new Set([...this.picked].filter((id) => there.has(id)));
      this.draw();
      if (this.fresh) this.root.querySelector(`[data-focus="${CSS.escape(`open-${this.fresh}`)}"]`)?.focus();
      this.fresh = null;
    }, () => this.draw());
  }

  #busy(root, key, values) {
    root.setAttribute("aria-busy", "true");
    replace(root, el("p", { cls: "quiet", text: this.say(key, values) }));
  }

  draw() {
    const focused = this.root.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    const { say } = this;
    this.root.setAttribute("aria-busy", "false");
    replace(this.root, this.rows.length ? el("ul", { cls: "saved-list", attrs: { "aria-label": say("saved_list") } }, this.rows.map((row) => this.row(row))) : el("p", { cls: "quiet", text: say("saved_none") }));
    if (focused) this.root.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  row(row) {
    const { say } = this;
    const id = row.scenario_id;
    const box = el("input", { attrs: { type: "checkbox", "aria-label": say("compare_pick", { name: row.name }) }, data: { focus: `pick-${id}` }, on: { change: (event) => (event.target.checked ? this.picked.add(id) : this.picked.delete(id)) } });
    box.checked = this.picked.has(id);
    const mine = row.owner === this.username;
    const action = (key, run) => el("button", { text: say(key), attrs: { type: "button", "aria-label": `${say(key)}: ${row.name}` }, data: { focus: `${key}-${id}` }, on: { click: (event) => run(event.currentTarget) } });
    return el(
      "li",
      { cls: id === this.fresh ? "fresh" : "", data: { scenario: id } },
      box,
      el("span", {}, el("b", { text: row.name }), el("br"), el("span", { cls: "quiet", text: say("saved_by", { owner: row.owner, time: dayAndTime(row.created_at) }) })),
      el("span", { cls: "quiet", text: say(row.shared ? "shared" : "private") }),
      el(
        "span",
        { cls: "actions" },
        action("open", () => this.open(row)),
        mine ? action(row.shared ? "unshare" : "share_now", () => this.share(row)) : null,
        mine ? action("retire", (button) => this.retire(row, button)) : null,
      ),
    );
  }

  async open({ scenario_id: id, name }) {
    const note = document.getElementById("saved-busy");
    note.textContent = this.say("opening", { name });
    await this.#try(async () => this.onOpen(await this.api.get(`${this.url}/${id}`)));
    note.textContent = "";
  }

  share(row) {
    return this.#try(async () => {
      await this.api.patch(`${this.url}/${row.scenario_id}`, { shared: !row.shared });
      await this.load();
      this.root.querySelector(`[data-focus="${row.shared ? "share_now" : "unshare"}-${row.scenario_id}"]`)?.focus({ preventScroll: true });
    });
  }

  // Asked twice, for it cannot be taken back here.
  retire(row, button) {
    if (button.dataset.sure !== "yes") {
      button.dataset.sure = "yes";
      button.textContent = this.say("retire_sure");
      return null;
    }
    return this.#try(async () => {
      await this.api.delete(`${this.url}/${row.scenario_id}`);
      await this.load();
    });
  }

  compare() {
    const [a, b] = this.rows.map((row) => row.scenario_id).filter((id) => this.picked.has(id));
    const root = document.getElementById("compared");
    if (this.picked.size !== 2) {
      replace(root);
      document.getElementById("error-saved").textContent = this.say("compare_two");
      return null;
    }
    this.#busy(root, "evaluating");
    return this.#try(async () => {
      const query = new URLSearchParams({ a, b });
      if (this.at) query.set("at", this.at);
      this.#compared(root, await this.api.get(`${this.url}/compare?${query}`));
    }, () => replace(root));
  }

  #compared(root, { a, b, difference }) {
    const { say, result } = this;
    root.setAttribute("aria-busy", "false");
    replace(
      root,
      el("h2", { cls: "section", text: say("compare_result", { a: a.name, b: b.name }) }),
      result.levels(a.hypothetical.plans, b.hypothetical.plans, say("side_a"), say("side_b")),
      result.districts(difference, "districts_differ", "no_district_differs"),
    );
  }

  async #try(run, failed = () => {}) {
    const error = document.getElementById("error-saved");
    error.textContent = "";
    try {
      await run();
    } catch (refusal) {
      error.textContent = words(refusal, this.say);
      failed();
    }
  }
}
