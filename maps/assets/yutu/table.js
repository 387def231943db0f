// The same districts as a table: for those who do not see the map, and for sorting.

import { el, integer, levelBadge, percent, replace } from "./dom.js";
import { fraction } from "./choropleth.js";

export class DistrictTable {
  constructor({ root, say, nameOf, onSelect }) {
    Object.assign(this, { root, say, nameOf, onSelect });
    this.sort = { key: "level", down: false };
  }

  columns(plan, measures) {
    const { say } = this;
    return [
      { key: "name", head: say("district"), value: (d) => this.nameOf(d.adcode), text: (d) => this.nameOf(d.adcode) },
      { key: "level", head: say("level_word"), value: (d) => d.plans?.[plan.id] ?? 9, badge: (d) => d.plans?.[plan.id] ?? null },
      ...measures
        .filter((measure) => measure.source !== "level")
        .map((measure) => ({ key: measure.id, head: measure.short, value: (d) => -share(measure, d), text: (d) => percent(share(measure, d, null)) })),
      // an estimate from the area without power: of no meaning under a plan that does not grade power
      ...(plan.power ? [{ key: "population_affected", head: say("population_affected"), value: (d) => -(d.population_affected ?? -1), text: (d) => integer(d.population_affected) }] : []),
    ];
  }

  show(situation, plan) {
    const columns = this.columns(plan, plan.measures);
    const zones = (situation?.units ?? [])
      .filter((unit) => unit.kind !== "district" && !(situation.districts ?? []).some((d) => d.adcode === unit.code))
      .map((unit) => ({ ...unit, adcode: unit.code, zone: true, plans: unit.plans ?? {} }));
    const column = columns.find((c) => c.key === this.sort.key) ?? columns[1];
    const rows = [...(situation?.districts ?? []), ...zones].sort((a, b) => {
      const x = column.value(a);
      const y = column.value(b);
      const order = typeof x === "string" ? x.localeCompare(y, "zh") : x - y;
      return (this.sort.down ? -order : order) || a.adcode.localeCompare(b.adcode);
    });
    const focused = this.root.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    replace(
      this.root,
      el(
        "table",
        { cls: "districts" },
        el("caption", { cls: "visually-hidden", text: this.say("table_caption") }),
        el("thead", {}, el("tr", {}, columns.map((c) => this.head(c, () => this.show(situation, plan))))),
        el("tbody", {}, rows.map((row) => this.row(row, columns))),
      ),
    );
    if (focused) this.root.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  head(column, redraw) {
    const active = column.key === this.sort.key;
    const button = el("button", {
      text: column.head,
      attrs: { type: "button" },
      data: { focus: `head-${column.key}` },
      on: {
        click: () => {
          this.sort = { key: column.key, down: active ? !this.sort.down : false };
          redraw();
        },
      },
    });
    return el("th", { attrs: { scope: "col", "aria-sort": active ? (this.sort.down ? "descending" : "ascending") : "none" } }, button);
  }

  row(district, columns) {
    return el(
      "tr",
      { data: { adcode: district.adcode, level: columns[1].badge(district) ?? "" } },
      columns.map((column, index) => {
        if (index === 0) {
          const button = el("button", { cls: "place", text: this.nameOf(district.adcode), attrs: { type: "button" }, data: { focus: `row-${district.adcode}` }, on: { click: () => this.onSelect(district.adcode) } });
          const mark = district.zone ? el("span", { cls: "quiet zone", text: this.say("zone") }) : null;
          return el("th", { attrs: { scope: "row" } }, button, mark);
        }
        if (column.badge) return el("td", {}, levelBadge(column.badge(district), this.say, "small"));
        return el("td", { cls: "number", text: column.text(district) });
      }),
    );
  }
}

function share(measure, district, missing = -1) {
  const value = fraction(measure, district);
  return value === null ? missing : value.part / value.whole;
}
