// The card of one district: facilities, supply, people, and its level under every plan.

import { decimal, el, integer, levelBadge, percent, replace } from "./dom.js";

export class DistrictCard {
  constructor({ root, say, plans, kinds, featureOf, onClose }) {
    Object.assign(this, { root, say, plans, kinds, featureOf, onClose });
    this.adcode = null;
    root.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close();
    });
  }

  close() {
    this.adcode = null;
    this.root.hidden = true;
    this.onClose();
  }

  show(adcode, situation, focus = false) {
    this.adcode = adcode;
    const { say } = this;
    const feature = this.featureOf(adcode);
    const district = (situation?.districts ?? []).find((d) => d.adcode === adcode);
    const unit = (situation?.units ?? []).find((u) => u.code === adcode);
    const name = feature?.properties.name ?? district?.name ?? unit?.name ?? adcode;
    const closer = el("button", { cls: "close", text: "×", attrs: { type: "button", "aria-label": say("close") }, on: { click: () => this.close() } });
    const head = el("header", {}, el("h2", { text: name }), el("span", { cls: "quiet code", text: adcode }), closer);
    const parts = [head];
    if (feature?.properties.approximate) parts.push(el("p", { cls: "note", text: say("approximate_border") }));
    if (!district) parts.push(el("p", { cls: "quiet", text: say(unit ? "zone_without_border" : "no_data") }));
    else parts.push(this.levels(district), this.facilities(district), this.supply(district));
    replace(this.root, parts);
    this.root.hidden = false;
    this.root.setAttribute("aria-label", name);
    if (focus) closer.focus({ preventScroll: true });
  }

  levels(district) {
    return el(
      "ul",
      { cls: "card-levels" },
      this.plans.map((plan) => el("li", {}, levelBadge(district.plans?.[plan.id] ?? null, this.say, "small"), el("span", { text: plan.short }))),
    );
  }

  facilities(district) {
    const { say } = this;
    const rows = Object.entries(district.facilities ?? {}).filter(([, count]) => count.total > 0);
    if (!rows.length) return el("p", { cls: "quiet", text: say("no_facilities") });
    const heads = ["facilities", "down", "unknown", "total", "share"].map((key) => el("th", { text: say(key), attrs: { scope: "col" } }));
    const area = district.area_share ?? {};
    return el(
      "table",
      { cls: "figures" },
      el("thead", {}, el("tr", {}, heads)),
      el(
        "tbody",
        {},
        rows.map(([kind, count]) =>
          el(
            "tr",
            { cls: count.down > 0 ? "hit" : "" },
            el("th", { text: this.kinds[kind] ?? kind, attrs: { scope: "row" } }),
            el("td", { text: integer(count.down) }),
            el("td", { text: integer(count.unknown) }),
            el("td", { text: integer(count.total) }),
            el("td", { text: percent(count.share_down) }),
          ),
        ),
      ),
      el("tfoot", {}, Object.entries(area).filter(([, share]) => typeof share?.any === "number").map(([kind, share]) =>
        el("tr", {}, el("th", { text: say("area_of", { kind: this.kinds[kind] ?? kind }), attrs: { scope: "row", colspan: 2 } }),
          el("td", { text: this.area(share), attrs: { colspan: 3 } })))),
    );
  }

  area(share) {
    const all = share.all === share.any ? null : share.all;
    const said = typeof all === "number" ? this.say("area_any_all", { any: percent(share.any), all: percent(all) }) : percent(share.any);
    return share.method === "sampled" ? `≈ ${said}` : said; // within 0.1 point, exact in the background
  }

  supply(district) {
    const { say } = this;
    const { load, customers } = district;
    const row = (key, value, share) =>
      el("tr", {}, el("th", { text: say(key), attrs: { scope: "row" } }), el("td", { text: value }), el("td", { text: share ?? "" }));
    return el(
      "table",
      { cls: "figures" },
      el(
        "tbody",
        {},
        row("load_shed", load ? say("of_mw", { part: decimal(load.load_shed_mw), whole: decimal(load.load_mw) }) : "—", percent(load?.share)),
        row("customers_out", customers ? say("of", { part: integer(customers.out), whole: integer(customers.total) }) : "—", percent(customers?.share)),
        row("population_affected", integer(district.population_affected)),
      ),
    );
  }
}
