// What would be, beside what is: levels of the plans, districts that change, the hours that follow.

import { AssessmentPanel } from "./assessment.js";
import { clockTime, dayAndTime, el, integer, levelBadge, replace, ROMAN } from "./dom.js";

export class Result {
  // `plan` gives the plan chosen; `onPlan` chooses one, `onMoment` a row of the timeline for the map.
  constructor({ root, say, plans, kinds, nameOf, plan, onPlan, onSelect, onMoment }) {
    Object.assign(this, { root, say, plans, kinds, nameOf, plan, onPlan, onSelect, onMoment });
    this.answer = null;
  }

  clear(words = "") {
    this.answer = null;
    this.root.setAttribute("aria-busy", String(Boolean(words)));
    replace(this.root, words ? el("p", { cls: "quiet", text: words }) : null);
  }

  // `note` says what these results are when they are not fresh.
  show(answer, note = null) {
    this.answer = answer;
    this.note = note;
    this.root.setAttribute("aria-busy", "false");
    this.draw();
  }

  outdated() {
    const node = this.root.querySelector("#outdated");
    if (node) node.hidden = false;
  }

  draw() {
    const { answer, say } = this;
    if (!answer) return;
    const title = el("h2", { cls: "section", text: say("result") });
    replace(
      this.root,
      title,
      el("p", { cls: "note-line" }, el("span", { text: this.note ?? say("as_known", { time: dayAndTime(answer.at ?? answer.as_of) }) })),
      el("p", { cls: "note", text: say("outdated"), attrs: { id: "outdated", hidden: "" } }),
      this.levels(answer.present.plans, answer.hypothetical.plans, say("present"), say("hypothetical")),
      this.reasons(answer),
      this.cascade(answer.cascade),
      this.districts(answer.difference),
      this.assumed(answer.assumed),
    );
  }

  // Both sides of every plan; the row chosen is the one whose reasons and colours are shown.
  levels(before, after, first, second) {
    const { say } = this;
    const rows = this.plans.map((plan) => {
      const [a, b] = [before[plan.id], after[plan.id]];
      const changed = (a?.level ?? null) !== (b?.level ?? null);
      const button = el("button", { cls: "place", text: plan.short, attrs: { type: "button", "aria-pressed": plan === this.plan() }, on: { click: () => this.onPlan(plan.id) } });
      return el("tr", { cls: changed ? "changed" : "", data: { plan: plan.id } }, el("th", { attrs: { scope: "row" } }, button), this.side(a, "before"), this.side(b, "after"));
    });
    const head = ["", first, second].map((text) => el("th", { text, attrs: { scope: "col" } }));
    return el("table", { cls: "levels" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows));
  }

  // A power event keeps its worst level: what holds now stands beside it where it is another.
  side(assessment, name) {
    const level = assessment?.level ?? null;
    const now = assessment?.current ? (assessment.current.level ?? null) : level;
    const words = now === level ? null : this.say("event_now", { level: now ? this.say("level_of", { level: ROMAN[now] }) : this.say("no_level") });
    return el("td", { data: { side: name, level: level ?? "" } }, levelBadge(level, this.say, "small"), words ? el("span", { cls: "quiet", text: words }) : null);
  }

  reasons(answer) {
    const plan = this.plan();
    const assessment = answer.hypothetical.plans[plan.id];
    if (!assessment) return null;
    const inside = el("div");
    const nothing = () => null;
    const panel = new AssessmentPanel({ root: inside, say: this.say, nameOf: this.nameOf, districtOf: nothing, incidentOf: nothing, kindOf: nothing, incidents: nothing, onSelect: this.onSelect, onIncident: nothing });
    panel.show(assessment, plan);
    const open = this.root.querySelector("#why")?.open ?? false;
    return el("details", { attrs: { id: "why", open: open ? "" : null } }, el("summary", { text: this.say("reasons_of", { plan: plan.short }) }), inside);
  }

  districts({ districts }, title = "districts_changed", none = "no_district_changed") {
    const { say } = this;
    if (!districts.length) return this.titled(say(title, { n: 0 }), el("p", { cls: "quiet", text: say(none) }));
    const head = [say("district"), ...this.plans.map((plan) => plan.short), say("down_of")];
    const rows = districts.map((row) =>
      el(
        "tr",
        { data: { adcode: row.adcode } },
        el("th", { attrs: { scope: "row" } }, el("button", { cls: "place", text: this.nameOf(row.adcode), attrs: { type: "button" }, on: { click: () => this.onSelect(row.adcode) } })),
        this.plans.map((plan) => el("td", { cls: "left" }, this.change(row.plans?.from?.[plan.id] ?? null, row.plans?.to?.[plan.id] ?? null, Boolean(row.plans)))),
        el("td", { text: down(row.facilities) }),
      ),
    );
    const table = el("table", { cls: "figures" }, el("thead", {}, el("tr", {}, head.map((text, at) => el("th", { cls: at && at <= this.plans.length ? "left" : "", text, attrs: { scope: "col" } })))), el("tbody", {}, rows));
    return this.titled(say(title, { n: districts.length }), el("div", { cls: "scroller" }, table));
  }

  change(before, after, known) {
    if (!known || before === after) return known ? levelBadge(after, this.say, "small") : null;
    return el("span", {}, levelBadge(before, this.say, "small"), el("span", { cls: "arrow", text: "→" }), levelBadge(after, this.say, "small"));
  }

  cascade(cascade) {
    if (!cascade) return null;
    const { say } = this;
    const { timeline, falls, hours } = cascade;
    const title = say("cascade", { hours });
    const caption = el("caption", { cls: "visually-hidden", text: say("cascade_caption") });
    const head = [say("minute_head"), say("clock_head"), ...this.plans.map((plan) => plan.short), say("fallen_head")];
    const rows = timeline.map((row, index) =>
      el(
        "tr",
        { data: { minute: row.minute } },
        el("th", { attrs: { scope: "row" } }, el("button", { cls: "place", text: integer(row.minute), attrs: { type: "button", "aria-label": say("moment_show", { n: integer(row.minute) }), title: say("moment_show", { n: integer(row.minute) }) }, on: { click: () => this.onMoment(index) } })),
        el("td", { text: clockTime(new Date(row.at)).slice(0, 5) }),
        this.plans.map((plan) => el("td", { cls: "left", data: { plan: plan.id, level: row.plans[plan.id] ?? "" } }, levelBadge(row.plans[plan.id] ?? null, say, "small"))),
        el("td", { cls: "wrap left" }, el("span", { text: this.fallen(row) }), index ? this.moved(row) : null),
      ),
    );
    const table = el("table", { cls: "figures cascade" }, caption, el("thead", {}, el("tr", {}, head.map((text, at) => el("th", { cls: at > 1 ? "left" : "", text, attrs: { scope: "col" } })))), el("tbody", {}, rows));
    return this.titled(
      title,
      this.plans.map((plan) => this.strip(plan, timeline, hours)),
      el("div", { cls: "scroller" }, table),
      falls.length ? this.falls(falls) : el("p", { cls: "quiet", text: say("cascade_none") }),
    );
  }

  // The hours as a band, as long as each level holds.
  strip(plan, timeline, hours) {
    const band = el("div", { cls: "strip", attrs: { role: "img" } });
    const end = hours * 60;
    const told = [];
    const levelAt = (row) => row.plans[plan.id] ?? null;
    const steps = timeline.filter((row, index) => !index || levelAt(row) !== levelAt(timeline[index - 1]));
    steps.forEach((row, index) => {
      const level = levelAt(row);
      const until = steps[index + 1]?.minute ?? end;
      const part = el("span", { cls: `level-${level ?? "none"}`, text: ROMAN[level] ?? "–", attrs: { title: `${row.minute}–${until}` } });
      part.style.flexGrow = String(Math.max(until - row.minute, 0.001));
      band.append(part);
      told.push(`${row.minute}: ${level ? this.say("level_of", { level: ROMAN[level] }) : this.say("no_level")}`);
    });
    band.setAttribute("aria-label", `${plan.short} ${told.join(", ")}`);
    return el("div", {}, el("span", { cls: "strip-name", text: plan.short }), band);
  }

  fallen(row) {
    const parts = Object.entries(row.fallen).map(([kind, n]) => this.say("n_facilities", { kind: this.kinds[kind] ?? kind, n: integer(n) }));
    if (row.lifts_stopped) parts.push(this.say("lifts", { n: integer(row.lifts_stopped) }));
    return parts.join(this.say("comma")) || "0";
  }

  // The districts whose levels change at this minute.
  moved(row) {
    const { say } = this;
    if (!row.districts.length) return null;
    const told = row.districts.map(({ adcode, plans }) => {
      const levels = this.plans.map((plan) => (plans?.[plan.id] ? `${plan.short} ${ROMAN[plans[plan.id]]}` : null)).filter(Boolean);
      return `${this.nameOf(adcode)} ${levels.join(" ") || say("no_level")}`;
    });
    return el("details", {}, el("summary", { text: `${say("districts_head")} (${told.length})` }), el("span", { cls: "quiet", text: told.join(say("comma")) }));
  }

  falls(falls) {
    const rows = falls.map(({ minute, kind, facilities }) => el("tr", {}, el("th", { text: integer(minute), attrs: { scope: "row" } }), el("td", { cls: "left", text: this.kinds[kind] ?? kind }), el("td", { text: integer(facilities) })));
    const table = el("table", { cls: "figures" }, el("tbody", {}, rows));
    return el("details", {}, el("summary", { text: this.say("falls", { n: new Set(falls.map((one) => one.minute)).size }) }), table);
  }

  assumed(assumed) {
    return el("details", {}, el("summary", { text: this.say("assumed") }), el("ul", {}, (assumed ?? []).map((one) => el("li", { cls: "note-line", text: one.text }))));
  }

  titled(title, ...children) {
    return el("section", {}, el("h3", { cls: "section", text: title }), ...children);
  }
}

// "0 → 64" of all kinds together, or nothing where facilities stay as they are.
function down(facilities) {
  if (!facilities) return "";
  const sum = (side) => Object.values(side ?? {}).reduce((total, kind) => total + (kind.down ?? 0), 0);
  return `${integer(sum(facilities.from))} → ${integer(sum(facilities.to))}`;
}
