// What the colours, hatches and numerals mean, with how many districts each applies to.

import { el, levelBadge, levelWords, replace } from "./dom.js";

export class Legend {
  constructor({ root, say, style }) {
    Object.assign(this, { root, say, style });
  }

  show(plan, measure, choropleth, { shown, unsettled, extents }, teams) {
    const { say } = this;
    const items = [];
    if (measure.source === "level") {
      for (const { level, severity } of plan.scale) {
        items.push(this.row(levelBadge(level, say, "small"), levelWords(level, severity, say), choropleth.levelCounts[level]));
      }
      const neutral = el("span", { cls: "swatch" });
      neutral.style.backgroundColor = this.style.nothing_down;
      items.push(this.row(neutral, say("no_level"), choropleth.levelCounts[0]));
    } else {
      measure.bins.forEach((label, bin) => {
        items.push(this.row(swatch(bin, measure), label, choropleth.counts[bin]));
      });
    }
    const hatch = el("span", { cls: "swatch hatch" });
    items.push(this.row(hatch, say("no_data"), choropleth.unknown));
    const notes = [];
    if (measure.source !== "level") {
      notes.push(el("p", { cls: "legend-levels" }, [1, 2, 3, 4].map((level) => levelBadge(level, say, "small")), el("span", { text: say("legend_levels") })));
    }
    if (shown) notes.push(el("p", { cls: "legend-levels" }, el("span", { cls: "swatch point" }), el("span", { text: say("legend_points") })));
    if (unsettled) notes.push(el("p", { cls: "legend-levels" }, levelBadge(null, say, "small", true), el("span", { text: say("legend_open", { n: unsettled }) })));
    if (extents) notes.push(el("p", { cls: "legend-levels" }, el("span", { cls: "swatch extent" }), el("span", { text: say("legend_outages") })));
    if (teams.shown) {
      notes.push(el("p", { cls: "legend-levels" }, el("span", { cls: "swatch team" }), el("span", { text: say("legend_teams", { n: teams.shown }) })));
      if (teams.stale) notes.push(el("p", { cls: "legend-levels" }, el("span", { cls: "swatch team stale" }), el("span", { text: say("legend_teams_stale", { n: teams.stale }) })));
    }
    replace(this.root, el("h3", { text: measure.label }), el("ul", {}, items), notes);
  }

  row(sign, text, count) {
    return el("li", {}, sign, el("span", { cls: "what", text }), el("span", { cls: "count", text: count ?? 0 }));
  }
}

// Colours come from the style as data; CSSOM sets them, no style attribute is written.
function swatch(bin, measure) {
  const node = el("span", { cls: "swatch" });
  node.style.backgroundColor = measure.colours[bin];
  return node;
}
