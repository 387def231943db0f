// One plan's proposal with its reasons: what is met, how far the next level is, what is unknown.

import { dayAndTime, decimal, el, integer, levelBadge, levelWords, mayBeGraver, percent, replace, ROMAN } from "./dom.js";

const SHOWN_PLACES = 8;
const SHOWN_NEEDS = 4;

export class AssessmentPanel {
  // `incidents` has the plan's open ones as a section; `incidentOf` one of them, where it may be read.
  constructor({ root, say, nameOf, incidentOf, kindOf, incidents, onSelect, onIncident }) {
    Object.assign(this, { root, say, nameOf, incidentOf, kindOf, incidents, onSelect, onIncident });
  }

  show(assessment, plan) {
    const focused = this.root.contains(document.activeElement) ? document.activeElement.dataset.incident : null;
    this.fill(assessment, plan);
    if (focused) this.root.querySelector(`[data-incident="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  fill(assessment, plan) {
    if (!assessment) {
      replace(this.root, el("p", { cls: "quiet", text: this.say("no_assessment") }), this.incidents(plan));
      return;
    }
    replace(
      this.root,
      this.verdict(assessment, plan),
      this.incidents(plan),
      this.findings(assessment, plan),
      this.next(assessment, plan),
      this.undeclared(assessment, plan),
    );
  }

  verdict(assessment, plan) {
    const { say } = this;
    const level = assessment.level;
    const calm = Boolean(assessment.below_noise_floor);
    const open = levelIsOpen(assessment);
    const words = level
      ? levelWords(level, assessment.severity, say)
      : say(open ? "level_open" : "not_reached");
    const box = el("section", { cls: `verdict ${calm ? "calm" : ""}`.trim(), data: { level: level ?? "" } });
    box.append(
      levelBadge(level, say, "huge", open),
      el(
        "div",
        { cls: "verdict-words" },
        el("h2", { text: words }),
        el("p", { cls: "plan-name", text: plan.name }),
        el("p", { cls: "quiet", text: say(level ? "proposal" : "proposal_none") }),
      ),
    );
    const lines = [this.bearers(assessment)];
    const { at_least: least, at_most: most } = assessment.bounds ?? {};
    if (mayBeGraver(assessment.bounds)) {
      const why = this.unknowns(assessment, plan);
      lines.push(
        el(
          "p",
          { cls: "bounds" },
          el("span", { text: say("bounds_least") }),
          least ? levelBadge(least, say, "small") : el("b", { text: say("no_level") }),
          el("span", { text: say("bounds_most") }),
          levelBadge(most ?? null, say, "small"),
          why ? el("span", { cls: "quiet", text: say("bounds_why", { what: why }) }) : null,
        ),
      );
    }
    if (assessment.possible) lines.push(el("p", { cls: "note", text: say("possible") }));
    if (assessment.out_of_scope) lines.push(el("p", { cls: "note", text: say("out_of_scope", { clause: assessment.out_of_scope.clause }) }));
    if (assessment.event) lines.push(el("p", { cls: "note", text: this.eventWords(assessment) }));
    if (calm) lines.push(el("p", { cls: "note", text: say("below_noise_floor") }));
    return el("div", { cls: "verdict-block" }, box, lines);
  }

  // A recorded level outlasts its cause: say when it was reached, and what holds now.
  eventWords({ event, current }) {
    const now = current?.level ? levelWords(current.level, current.severity, this.say) : this.say("not_reached");
    return this.say("event_open", { worst: dayAndTime(event.worst_at), opened: dayAndTime(event.opened_at), now });
  }

  // "city.load_shed_mw" → the fact's name, each once. A plan fed by facilities depends on those in
  // unknown state, whether it names their number down or nothing.
  unknowns(assessment, plan) {
    const facts = (assessment.unknown ?? []).map((path) => String(path).split(".").pop());
    const names = facts.map((fact) => (fact === "facilities_down" ? this.say("unknown_facilities") : this.metric(fact, plan)));
    if (names.length) return [...new Set(names)].join(this.say("comma"));
    return plan.facilities ? this.say("unknown_facilities") : null;
  }

  // The incidents that have the plan's level, each by itself.
  bearers(assessment) {
    const ids = new Set((assessment.findings ?? []).filter((row) => row.incident_id && row.level === assessment.level).map((row) => row.incident_id));
    if (!ids.size) return null;
    const shown = [...ids].slice(0, SHOWN_PLACES);
    const where = (id) => {
      const code = this.incidentOf(id)?.adcode ?? assessment.findings.find((row) => row.incident_id === id)?.districts?.[0];
      return code ? this.nameOf(code) : null;
    };
    return el(
      "p",
      { cls: "bearers places" },
      el("span", { cls: "quiet", text: this.say("bearers", { n: ids.size }) }),
      shown.map((id) => this.incident(id, where(id))),
      ids.size > shown.length ? el("span", { cls: "quiet", text: this.say("and_more_incidents", { n: ids.size - shown.length }) }) : null,
    );
  }

  // A button that shows an incident, or plain words where the account may not read it.
  incident(id, where = null) {
    const words = [el("b", { text: this.kindOf(id) ?? this.say("incident") }), where ? el("span", { text: where }) : null];
    if (!this.incidentOf(id)) return el("span", { cls: "place" }, words);
    return el("button", { cls: "place", attrs: { type: "button" }, data: { bearer: id }, on: { click: () => this.onIncident(id) } }, words);
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
    return el(
      "li",
      { cls: "finding", data: { clause: row.clause ?? "" } },
      levelBadge(row.level, this.say, "small"),
      el(
        "div",
        {},
        this.rule(row, plan),
        el(
          "p",
          { cls: "numbers" },
          el("span", { cls: "metric", text: this.metric(row.metric, plan) }),
          row.count_threshold ? this.counted(row) : [el("b", { text: this.quantity(row.value, row.unit) }), this.threshold(row)],
        ),
        this.places(row, plan),
      ),
    );
  }

  // What is counted are districts; how far each is stands beside its name.
  counted(row) {
    return [
      el("b", { text: this.say("counted", { n: row.count, threshold: this.quantity(row.threshold, row.unit) }) }),
      row.count_threshold > 1 ? el("span", { cls: "quiet", text: this.say("count_needed", { n: row.count_threshold }) }) : null,
    ];
  }

  // "threshold: yes" says nothing.
  threshold(row) {
    if (typeof row.threshold !== "number") return null;
    return el("span", { cls: "quiet", text: this.say("threshold", { value: this.quantity(row.threshold, row.unit) }) });
  }

  rule(row, plan) {
    const rule = criterion(plan, row);
    return el("p", { cls: "rule" }, el("span", { cls: "clause", text: `§${row.clause}` }), el("span", { text: row.text ?? rule?.text ?? this.metric(row.metric, plan) }));
  }

  // The nearest level in full, what lies beyond it behind a fold.
  next(assessment, plan) {
    const rows = assessment.next ?? [];
    if (!rows.length) return null;
    const nearest = Math.max(...rows.map((row) => row.level));
    const list = (some) => el("ol", { cls: "findings" }, some.map((row) => this.distance(row, plan)));
    const beyond = rows.filter((row) => row.level !== nearest);
    return this.section(
      this.say("next"),
      list(rows.filter((row) => row.level === nearest)),
      beyond.length ? el("details", { cls: "beyond" }, el("summary", { text: this.say("beyond", { n: beyond.length }) }), list(beyond)) : null,
    );
  }

  distance(row, plan) {
    const body = el("div", {}, this.rule(row, plan));
    for (const gap of [row, ...(row.also ?? [])]) {
      const short = gap.short_by ?? null;
      body.append(
        el(
          "p",
          { cls: "numbers" },
          el("span", { cls: "metric", text: this.metric(gap.metric, plan) }),
          short === null ? el("b", { text: this.say("value_unknown") }) : el("b", { text: this.say("short_by", { value: this.quantity(short, gap.short_by_unit ?? gap.unit, true) }) }),
          gap.short_by_amount ? el("span", { text: this.say("amounts_to", { value: this.quantity(gap.short_by_amount.value, gap.short_by_amount.unit) }) }) : null,
          (gap.value ?? null) === null ? this.threshold(gap) : el("span", { cls: "quiet", text: `${this.quantity(gap.value, gap.unit)} → ${this.quantity(gap.threshold, gap.unit)}` }),
          gap.reached_at ? el("span", { cls: "quiet", text: this.say("reached_at", { time: dayAndTime(gap.reached_at) }) }) : null,
        ),
      );
    }
    const needs = this.needs(row, plan) ?? this.places(row, plan);
    if (needs) body.append(needs);
    return el("li", { cls: "finding next", data: { clause: row.clause ?? "" } }, levelBadge(row.level, this.say, "small outline"), body);
  }

  // Per nearest district how much more it takes; the amount's key says what of.
  needs(row) {
    if (!Array.isArray(row.needs) || !row.needs.length) return null;
    const shown = row.needs.slice(0, SHOWN_NEEDS);
    const further = (row.needs_total ?? row.needs.length) - shown.length;
    return el(
      "ul",
      { cls: "needs" },
      shown.map((need) => {
        const { adcode, ...amounts } = need;
        const [[name, amount]] = Object.entries(amounts);
        const unit = { facilities: "facility", load_shed_mw: "MW", customers_out: "customer" }[name];
        const text = amount === null ? this.say("value_unknown") : this.say("needs_more", { value: this.quantity(amount, unit) });
        return el("li", {}, this.place(adcode), el("span", { text }));
      }),
      further > 0 ? el("li", { cls: "quiet", text: this.say("needs_further", { n: further }) }) : null,
    );
  }

  // What only people can declare: each fact once, with the gravest level it would give.
  undeclared(assessment, plan) {
    const facts = new Map();
    for (const entry of assessment.undeclared ?? []) {
      const level = Math.min(facts.get(entry.fact) ?? 9, entry.level ?? 9);
      facts.set(entry.fact, level);
    }
    if (!facts.size) return null;
    return this.section(
      this.say("undeclared"),
      el("p", { cls: "quiet", text: this.say("undeclared_why") }),
      el(
        "ul",
        { cls: "undeclared" },
        [...facts].map(([fact, level]) => el("li", { text: ROMAN[level] ? this.say("could_give", { fact: this.metric(fact, plan), level: ROMAN[level] }) : this.metric(fact, plan) })),
      ),
    );
  }

  section(title, ...children) {
    return el("section", { cls: "reasons" }, el("h3", { text: title }), ...children);
  }

  // The districts of a finding with their own values, gravest first; the rest as a number.
  places(row) {
    const values = new Map((row.values ?? []).map((one) => [one.adcode, one.value]));
    const incident = row.incident_id ? this.incidentOf(row.incident_id) : null;
    const codes = [...new Set([...(row.districts ?? []), ...(incident?.adcode ? [incident.adcode] : [])])];
    if (!codes.length && !incident) return null;
    codes.sort((a, b) => (values.get(b) ?? 0) - (values.get(a) ?? 0));
    const shown = codes.slice(0, SHOWN_PLACES);
    const more = codes.length - shown.length;
    return el(
      "p",
      { cls: "places" },
      incident ? this.incident(row.incident_id) : null,
      shown.map((code) => this.place(code, values.has(code) ? this.quantity(values.get(code), row.unit) : null)),
      more > 0 ? el("span", { cls: "quiet", text: this.say("and_more", { n: more }) }) : null,
    );
  }

  place(code, value = null) {
    return el(
      "button",
      { cls: "place", attrs: { type: "button" }, on: { click: () => this.onSelect(code) } },
      el("span", { text: this.nameOf(code) }),
      value === null ? null : el("span", { cls: "quiet", text: value }),
    );
  }

  metric(name, plan) {
    return plan.metrics[name] ?? name ?? "";
  }

  quantity(value, unit, difference = false) {
    if (value === null || value === undefined) return "—";
    if (Array.isArray(value)) return value.map((one) => this.quantity(one, unit)).join(" / ");
    if (typeof value === "boolean") return this.say(value ? "yes" : "no");
    if (typeof value !== "number") return String(value);
    if (unit === "share") return difference ? this.say("points", { n: decimal(value * 100) }) : percent(value);
    const number = Number.isInteger(value) ? integer(value) : decimal(value);
    const name = unit ? this.say(`unit_${unit}`, { n: value }) : "";
    return name && !name.startsWith("unit_") ? `${number} ${name}` : number;
  }
}

// Graded by incidents, none of which has a level for certain though unknown facts could give one.
export function levelIsOpen(assessment) {
  return Boolean(assessment?.incidents) && !assessment.level && mayBeGraver(assessment.bounds);
}

function criterion(plan, row) {
  return plan.criteria.find((rule) => rule.clause === row.clause && rule.metric === row.metric) ?? plan.criteria.find((rule) => rule.clause === row.clause);
}
