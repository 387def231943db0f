// One plan's proposal with its reasons: what is met, how far the next level is, what is unknown.

import { decimal, el, integer, levelBadge, percent, replace, ROMAN } from "./dom.js";

export class AssessmentPanel {
  constructor({ root, say, nameOf, onSelect }) {
    Object.assign(this, { root, say, nameOf, onSelect });
  }

  show(assessment, plan) {
    if (!assessment) {
      replace(this.root, el("p", { cls: "quiet", text: this.say("no_assessment") }));
      return;
    }
    replace(
      this.root,
      this.verdict(assessment, plan),
      this.findings(assessment, plan),
      this.next(assessment, plan),
      this.undeclared(assessment, plan),
    );
  }

  verdict(assessment, plan) {
    const { say } = this;
    const level = assessment.level;
    const calm = Boolean(assessment.below_noise_floor);
    const words = level
      ? [say("level_of", { level: ROMAN[level] }), assessment.severity].filter(Boolean).join(" · ")
      : say("not_reached");
    const box = el("section", { cls: `verdict ${calm ? "calm" : ""}`.trim(), data: { level: level ?? "" } });
    box.append(
      levelBadge(level, say, "huge"),
      el(
        "div",
        { cls: "verdict-words" },
        el("h2", { text: words }),
        el("p", { cls: "plan-name", text: plan.name }),
        el("p", { cls: "quiet", text: say(level ? "proposal" : "proposal_none") }),
      ),
    );
    const lines = [];
    const { at_least: least, at_most: most } = assessment.bounds ?? {};
    if (least !== most) {
      lines.push(
        el(
          "p",
          { cls: "bounds" },
          el("span", { text: say("bounds_least") }),
          levelBadge(least ?? null, say, "small"),
          el("span", { text: say("bounds_most") }),
          levelBadge(most ?? null, say, "small"),
          el("span", { cls: "quiet", text: say("bounds_why") }),
        ),
      );
    }
    if (calm) lines.push(el("p", { cls: "note", text: say("below_noise_floor") }));
    return el("div", { cls: "verdict-block" }, box, lines);
  }

  findings(assessment, plan) {
    const rows = assessment.findings ?? [];
    return this.section(
      this.say("findings", { n: rows.length }),
      rows.length
        ? el("ol", { cls: "findings" }, rows.map((row) => this.finding(row, plan)))
        : el("p", { cls: "quiet", text: this.say("no_findings") }),
    );
  }

  finding(row, plan) {
    const rule = criterion(plan, row);
    return el(
      "li",
      { cls: "finding", data: { clause: row.clause ?? "" } },
      levelBadge(row.level, this.say, "small"),
      el(
        "div",
        {},
        el("p", { cls: "rule" }, el("span", { cls: "clause", text: `§${row.clause}` }), el("span", { text: row.text ?? rule?.text ?? this.metric(row, plan) })),
        this.numbers(row, plan, rule),
        this.places(row.districts),
      ),
    );
  }

  numbers(row, plan, rule) {
    const unit = row.unit ?? rule?.unit;
    return el(
      "p",
      { cls: "numbers" },
      el("span", { cls: "metric", text: this.metric(row, plan) }),
      el("b", { text: this.quantity(row.value, unit) }),
      el("span", { cls: "quiet", text: this.say("threshold", { value: this.quantity(row.threshold, unit) }) }),
    );
  }

  next(assessment, plan) {
    const rows = assessment.next ?? [];
    if (!rows.length) return null;
    return this.section(
      this.say("next"),
      el(
        "ol",
        { cls: "findings" },
        rows.map((row) => {
          const rule = criterion(plan, row);
          const unit = row.unit ?? rule?.unit;
          const body = el(
            "div",
            {},
            el("p", { cls: "rule" }, el("span", { cls: "clause", text: `§${row.clause}` }), el("span", { text: row.text ?? rule?.text ?? this.metric(row, plan) })),
          );
          if (row.short_by !== null && row.short_by !== undefined) {
            body.append(
              el(
                "p",
                { cls: "numbers" },
                el("span", { cls: "metric", text: this.metric(row, plan) }),
                el("b", { text: this.say("short_by", { value: this.quantity(row.short_by, unit, true) }) }),
                el("span", { cls: "quiet", text: `${this.quantity(row.value, unit)} → ${this.quantity(row.threshold, unit)}` }),
              ),
            );
          }
          const needs = this.needs(row);
          body.append(...(needs ? [needs] : []));
          if (!needs) body.append(...[this.places(row.districts)].filter(Boolean));
          return el("li", { cls: "finding next", data: { clause: row.clause ?? "" } }, levelBadge(row.level, this.say, "small outline"), body);
        }),
      ),
    );
  }

  // Per nearest district how many more facilities it takes.
  needs(row) {
    if (!Array.isArray(row.needs) || !row.needs.length) return null;
    return el(
      "ul",
      { cls: "needs" },
      row.needs.slice(0, 4).map((need) =>
        el(
          "li",
          {},
          this.place(need.adcode ?? need.unit ?? need.code),
          el("span", { text: this.say("needs_more", { n: integer(need.facilities ?? need.more ?? need.short_by) }) }),
        ),
      ),
    );
  }

  undeclared(assessment, plan) {
    const facts = assessment.undeclared ?? [];
    if (!facts.length) return null;
    return this.section(
      this.say("undeclared"),
      el("p", { cls: "quiet", text: this.say("undeclared_why") }),
      el("ul", { cls: "undeclared" }, facts.map((fact) => el("li", { text: plan.metrics[fact] ?? fact }))),
    );
  }

  section(title, ...children) {
    return el("section", { cls: "reasons" }, el("h3", { text: title }), ...children);
  }

  places(codes) {
    if (!Array.isArray(codes) || !codes.length) return null;
    return el("p", { cls: "places" }, codes.map((code) => this.place(code)));
  }

  place(code) {
    return el("button", { cls: "place", text: this.nameOf(code), attrs: { type: "button" }, on: { click: () => this.onSelect(code) } });
  }

  metric(row, plan) {
    return plan.metrics[row.metric] ?? row.metric ?? "";
  }

  quantity(value, unit, difference = false) {
    if (value === null || value === undefined) return "—";
    if (typeof value === "boolean") return this.say(value ? "yes" : "no");
    if (typeof value !== "number") return String(value);
    if (unit === "share") return difference ? this.say("points", { n: decimal(value * 100) }) : percent(value);
    const number = Number.isInteger(value) ? integer(value) : decimal(value);
    const name = unit ? this.say(`unit_${unit}`) : "";
    return name && !name.startsWith("unit_") ? `${number} ${name}` : number;
  }
}

function criterion(plan, row) {
  return plan.criteria.find((rule) => rule.clause === row.clause && rule.metric === row.metric) ?? plan.criteria.find((rule) => rule.clause === row.clause);
}
