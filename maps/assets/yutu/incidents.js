// The open incidents of a plan as a list, gravest first; choosing one shows it on the map.

import { dayAndTime, el, levelBadge, mayBeGraver, openWords } from "./dom.js";

const SHOWN = 50;

// Levels are 1 (gravest) to 4, then those still open, none last; then what has happened before what
// may, then the newest.
export function gravestFirst(features) {
  const rank = (p) => [p.level ?? (mayBeGraver(p.bounds) ? 5 : 9), p.possible ? 1 : 0, -Date.parse(p.occurred_at ?? "") || 0];
  return features.toSorted((a, b) => {
    const [x, y] = [rank(a.properties), rank(b.properties)];
    const at = x.findIndex((one, index) => one !== y[index]);
    return at < 0 ? 0 : x[at] - y[at];
  });
}

export class IncidentList {
  // `unknowns`: the names of an incident's unknown facts.
  constructor({ say, nameOf, kinds, unknowns, onShow }) {
    Object.assign(this, { say, nameOf, kinds, unknowns, onShow });
  }

  // A section, or null where there is nothing open.
  section(features) {
    if (!features.length) return null;
    const rows = gravestFirst(features);
    const more = rows.length - SHOWN;
    return el(
      "section",
      { cls: "reasons", attrs: { id: "open-incidents" } },
      el("h3", { text: this.say("open_incidents", { n: rows.length }) }),
      el("ol", { cls: "incidents" }, rows.slice(0, SHOWN).map((one) => el("li", {}, this.row(one)))),
      more > 0 ? el("p", { cls: "quiet", text: this.say("and_more_incidents", { n: more }) }) : null,
    );
  }

  name(p) {
    return p.kind ? (this.kinds[p.kind] ?? p.kind) : this.say("incident");
  }

  row(feature) {
    const { say } = this;
    const p = feature.properties;
    const placed = feature.geometry?.type === "Point";
    const where = p.adcode ? this.nameOf(p.adcode) : say(placed ? "outside_city" : "not_placed");
    return el(
      "button",
      { cls: "incident", data: { incident: p.incident_id }, attrs: { type: "button", disabled: placed || p.adcode ? null : "" }, on: { click: () => this.onShow(feature) } },
      levelBadge(p.level ?? null, say, "small", mayBeGraver(p.bounds)),
      el(
        "span",
        { cls: "incident-words" },
        el("span", {}, el("b", { text: this.name(p) }), el("span", { text: where }), p.possible ? el("span", { cls: "maybe", text: say("may_happen") }) : null),
        el("span", { cls: "quiet" }, el("span", { text: dayAndTime(p.occurred_at).slice(0, 16) }), el("span", { text: say(`state_${p.state}`) })),
        openWords(p.bounds, say) ? el("span", { cls: "open-level", text: openWords(p.bounds, say), attrs: { title: this.unknowns(p) } }) : null,
        p.address ? el("span", { cls: "quiet address", text: p.address }) : null,
      ),
    );
  }
}
