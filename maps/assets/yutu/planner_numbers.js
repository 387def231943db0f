// What stands and happens in the region: the answer of /v1/regions/query as figures and tables.

import { dayAndTime, decimal, el, integer, levelBadge, percent, replace } from "./dom.js";

const ROWS_MAX = 50;
const NAMES_MAX = 6;
const COUNTS = ["total", "down", "degraded", "unknown"];

export class Numbers {
  constructor({ root, say, kinds, nameOf, onAgain }) {
    Object.assign(this, { root, say, kinds, nameOf, onAgain });
    this.answer = null;
  }

  // Nothing chosen, or the server is asked: what was shown goes, so that no number is another's.
  clear(words = "") {
    this.answer = null;
    this.root.setAttribute("aria-busy", String(Boolean(words)));
    delete this.root.dataset.sequence;
    replace(this.root, words ? el("p", { cls: "quiet", text: words }) : null);
  }

  show(answer) {
    this.answer = answer;
    this.root.setAttribute("aria-busy", "false");
    this.root.dataset.sequence = answer.sequence;
    replace(
      this.root,
      this.header(answer),
      this.totals(answer),
      this.facilities(answer),
      this.districts(answer),
      this.outages(answer),
      this.incidents(answer),
      this.teams(answer),
      this.notes(answer),
    );
  }

  // Whether the situation has changed since: the numbers stay until someone asks again.
  movedOn(sequence) {
    const note = this.root.querySelector("#moved-on");
    if (note && this.answer) note.hidden = sequence <= this.answer.sequence;
  }

  header(answer) {
    const again = el("span", { attrs: { id: "moved-on", hidden: "" } }, el("span", { text: `${this.say("moved_on")} ` }), el("button", { cls: "place", text: this.say("ask_again"), attrs: { type: "button" }, on: { click: () => this.onAgain() } }));
    return el("p", { cls: "note-line" }, el("span", { text: this.say("as_known", { time: dayAndTime(answer.at ?? answer.as_of) }) }), again);
  }

  totals({ area_m2: area, outside_m2: outside, population, load, customers }) {
    const { say } = this;
    const km2 = (m2) => say("km2", { n: decimal(m2 / 1e6) });
    const lost = (row, unknown) => [percent(row.share), unknown].filter((one) => one && one !== "—").join(" · ");
    return el(
      "dl",
      { cls: "totals" },
      this.figure("area", say("area"), km2(area), outside > 0 ? `${say("outside_part")} ${km2(outside)}` : null),
      this.figure("population", say("people"), integer(population.inside), this.people(population)),
      this.figure("load", say("load"), say("mw", { n: decimal(load.load_mw) })),
      this.figure("load-shed", say("load_lost"), say("mw", { n: decimal(load.load_shed_mw) }), lost(load, load.load_unknown_mw ? say("load_unknown", { n: say("mw", { n: decimal(load.load_unknown_mw) }) }) : null)),
      this.figure("customers", say("customers"), integer(customers.total)),
      this.figure("customers-out", say("customers_lost"), integer(customers.out), lost(customers, customers.unknown ? say("load_unknown", { n: integer(customers.unknown) }) : null)),
    );
  }

  // How many are affected, or of which districts something is not known.
  people({ affected, unknown }) {
    if (affected !== null) return `${this.say("people_hit")} ${integer(affected)}`;
    const names = (codes) => `${codes.slice(0, NAMES_MAX).map(this.nameOf).join(this.say("comma"))}${codes.length > NAMES_MAX ? `… (${integer(codes.length)})` : ""}`;
    const told = (key, codes) => (codes.length ? this.say(key, { names: names(codes) }) : null);
    return [told("people_unknown", unknown.population), told("power_area_unknown", unknown.power_area_share)].filter(Boolean).join(this.say("semicolon"));
  }

  figure(name, title, value, more) {
    return el("div", { data: { figure: name } }, el("dt", { text: title }), el("dd", {}, el("span", { cls: "value", text: value }), more ? el("span", { cls: "quiet", text: more }) : null));
  }

  facilities({ facilities }) {
    const { say } = this;
    const kinds = Object.entries(facilities);
    if (!kinds.length) return this.section("facilities_here", el("p", { cls: "quiet", text: say("no_facilities_here") }));
    const head = [el("th", { text: say("kind"), attrs: { scope: "col" } }), ...COUNTS.map((name) => el("th", { text: say(name), attrs: { scope: "col" } })), el("th", { text: say("share"), attrs: { scope: "col" } })];
    const rows = kinds.flatMap(([kind, sums]) => [
      this.count(this.kinds[kind] ?? kind, sums, { kind }, ""),
      ...Object.entries(sums.operators).map(([operator, own]) => this.count(operator || say("operator_unsaid"), own, { operator }, "operator")),
    ]);
    const table = el("table", { cls: "figures" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows));
    const whole = el("div", { cls: "scroller" }, table);
    const hide = (on) => table.querySelectorAll("tr.operator").forEach((row) => (row.hidden = !on));
    const box = el("input", { attrs: { type: "checkbox", id: "by-operator" }, on: { change: (event) => hide(event.target.checked) } });
    hide(false);
    return this.section("facilities_here", whole, el("label", { cls: "tick" }, box, el("span", { text: say("operators") })));
  }

  count(name, sums, data, cls) {
    return el(
      "tr",
      { cls, data },
      el("th", { text: name, attrs: { scope: "row" } }),
      COUNTS.map((one) => el("td", { text: integer(sums[one]), data: { count: one } })),
      el("td", { text: percent(sums.share_down) }),
    );
  }

  districts({ districts }) {
    const { say } = this;
    const rows = districts.map((part) =>
      el(
        "tr",
        { data: { adcode: part.adcode } },
        el("th", { text: this.nameOf(part.adcode), attrs: { scope: "row" } }),
        el("td", { text: decimal(part.area_m2 / 1e6), data: { part: "area" } }),
        el("td", { text: percent(part.share_of_district) }),
      ),
    );
    const head = ["district", "area", "share_of_district"].map((key) => el("th", { text: key === "area" ? say("km2", { n: "" }).trim() : say(key), attrs: { scope: "col" } }));
    return this.section("districts_here", el("table", { cls: "figures" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)));
  }

  outages({ outages, outages_open: open }) {
    if (!open) return null;
    const { say } = this;
    const rows = outages.slice(0, ROWS_MAX).map((one) =>
      el(
        "tr",
        {},
        el("th", { text: one.outage_id, attrs: { scope: "row" } }),
        el("td", { cls: "wrap left", text: [one.operator, one.planned ? say("planned") : null].filter(Boolean).join(" · ") }),
        el("td", { text: say("mw", { n: decimal(one.load_shed_kw / 1000) }) }),
        el("td", { text: dayAndTime(one.started_at).slice(5, 16) }),
        el("td", { text: percent(one.share_inside) }),
      ),
    );
    return this.titled(say("outages_here", { n: open }), el("div", { cls: "scroller" }, el("table", { cls: "figures" }, el("tbody", {}, rows))), this.more(open - rows.length));
  }

  incidents({ incidents, incidents_open: open }) {
    if (!open) return null;
    const { say } = this;
    const rows = incidents.slice(0, ROWS_MAX).map((one) =>
      el(
        "tr",
        {},
        el("td", { cls: "left" }, levelBadge(one.level, say, "small")),
        el("td", { cls: "wrap left", text: this.kinds[one.kind] ?? one.kind }),
        el("td", { cls: "wrap left", text: one.adcode ? this.nameOf(one.adcode) : say("outside_city") }),
        el("td", { text: dayAndTime(one.occurred_at).slice(5, 16) }),
        el("td", { text: say(`state_${one.state}`) }),
      ),
    );
    return this.titled(say("incidents_here", { n: open }), el("div", { cls: "scroller" }, el("table", { cls: "figures" }, el("tbody", {}, rows))), this.more(open - rows.length));
  }

  teams({ resources, resources_total: total }) {
    if (!total) return null;
    const { say } = this;
    const rows = resources.slice(0, ROWS_MAX).map((one) =>
      el(
        "tr",
        {},
        el("td", { cls: "wrap left", text: one.name }),
        el("td", { cls: "wrap left", text: one.adcode ? this.nameOf(one.adcode) : say("outside_city") }),
        el("td", { text: dayAndTime(one.observed_at).slice(5, 16) }),
        el("td", { cls: "wrap left", text: one.stale ? say("team_stale") : "" }),
      ),
    );
    return this.titled(say("teams_here", { n: total }), el("div", { cls: "scroller" }, el("table", { cls: "figures" }, el("tbody", {}, rows))), this.more(total - rows.length));
  }

  notes({ reported_by_return: returns, scope }) {
    const { say } = this;
    const names = returns.map((one) => `${one.operator}（${this.kinds[one.kind] ?? one.kind}）`).join(say("comma"));
    const limited = !scope.districts.includes("*") || !scope.operators.includes("*");
    return el("div", {}, names ? el("p", { cls: "note", text: say("by_return", { names }) }) : null, limited ? el("p", { cls: "note", text: say("scoped") }) : null);
  }

  more(n) {
    return n > 0 ? el("p", { cls: "quiet", text: this.say("and_more_rows", { n: integer(n) }) }) : null;
  }

  section(key, ...children) {
    return this.titled(this.say(key), ...children);
  }

  titled(title, ...children) {
    return el("section", {}, el("h3", { cls: "section", text: title }), ...children);
  }
}
