// A what-if on the map: as supposed, and at each moment of its cascade, with the districts' levels of
// that minute; always said to be supposed.

import { fraction } from "./choropleth.js";
import { clockTime, dayAndTime, el, integer, replace, ROMAN } from "./dom.js";

const NO_LEVEL = 9; // behind every level there is

export class Moments {
  // `onShow` draws the map; `plan` gives the plan chosen, `onPlan` chooses one.
  constructor({ root, say, plans, plan, onPlan, onShow }) {
    Object.assign(this, { root, say, plans, plan, onPlan, onShow });
    this.shown = "present";
    this.answer = null;
    this.buttons = el("div", { cls: "measures", attrs: { role: "group", "aria-label": say("show_on_map"), id: "shown" } });
    this.slider = el("input", { attrs: { type: "range", id: "moment", min: 0, step: 1, "aria-label": say("moment") }, on: { input: () => this.go(this.slider.valueAsNumber) } });
    const step = (by, key, text) => el("button", { text, attrs: { type: "button", "aria-label": say(key), title: say(key) }, data: { step: by }, on: { click: () => this.go(this.index + by) } });
    this.steps = el("div", { cls: "moments" }, step(-1, "moment_before", "◀"), this.slider, step(1, "moment_after", "▶"));
    this.mark = el("p", { cls: "what-if-mark", attrs: { id: "what-if", role: "status" } });
    this.note = el("p", { cls: "what-if-note", attrs: { id: "other-plan" } });
    replace(root, this.buttons, this.mark, this.steps, this.note);
    this.draw();
  }

  clear() {
    this.answer = null;
    this.shown = "present";
    this.draw();
  }

  // Of a fresh answer the picture that changed: of its plan, unless `keep`, and from the minute on at
  // which it does. Only levels are known of later minutes.
  show(answer, keep) {
    this.answer = answer;
    this.rows = accumulated(answer.cascade?.timeline ?? []);
    this.index = 0;
    this.most = this.#mostChanged();
    this.shown = "hypothetical";
    const found = keep ? this.most.find((one) => one.plan === this.plan()) : this.most[0];
    if (found) this.#turnTo(found);
  }

  #turnTo({ plan, index }, chosen = false) {
    if (index !== null) {
      this.shown = "later";
      this.index = index;
    }
    this.onPlan(plan.id, chosen);
  }

  // What the choropleth paints, and by which measure; null while the map shows what is.
  picture() {
    if (!this.answer || this.shown === "present") return null;
    const { plan } = this;
    if (this.shown === "hypothetical") return { situation: this.answer.hypothetical, measure: plan().measures[0] };
    const districts = [...this.rows[this.index].levels].map(([adcode, plans]) => ({ adcode, plans }));
    return { situation: { districts }, measure: plan().measures.find((one) => one.source === "level") };
  }

  choose(what) {
    this.shown = what;
    this.onShow();
  }

  go(index) {
    this.index = Math.max(0, Math.min(index, this.rows.length - 1));
    this.choose("later");
  }

  draw() {
    const { say, answer, shown } = this;
    this.root.hidden = !answer;
    document.body.classList.toggle("supposing", Boolean(answer) && shown !== "present");
    if (!answer) return;
    const focused = this.buttons.contains(document.activeElement) ? document.activeElement.dataset.shown : null;
    const sides = ["present", "hypothetical", ...(this.rows.length ? ["later"] : [])];
    replace(
      this.buttons,
      sides.map((what) => el("button", { text: say(what), attrs: { type: "button", "aria-pressed": what === shown }, data: { shown: what }, on: { click: () => this.choose(what) } })),
    );
    if (focused) this.buttons.querySelector(`[data-shown="${focused}"]`)?.focus({ preventScroll: true });
    this.mark.hidden = shown === "present";
    const later = shown === "later";
    this.steps.hidden = !later;
    const told = later ? this.words() : say("as_known", { time: dayAndTime(answer.at ?? answer.as_of) });
    replace(this.mark, el("b", { text: say("what_if") }), el("span", { text: told }));
    if (later) {
      this.slider.max = String(this.rows.length - 1);
      this.slider.value = String(this.index);
      this.slider.setAttribute("aria-valuetext", told);
      this.steps.querySelector('[data-step="-1"]').disabled = this.index === 0;
      this.steps.querySelector('[data-step="1"]').disabled = this.index === this.rows.length - 1;
    }
    this.#tellOther();
  }

  // "第 240 分钟（2026-11-21 20:00 北京时间） · 通信 Ⅱ · 停电 –", with the levels of every plan then
  words() {
    const { say } = this;
    const row = this.rows[this.index];
    const when = say("moment_at", { n: integer(row.minute), day: dayAndTime(row.at).slice(0, 10), time: clockTime(new Date(row.at)).slice(0, 5) });
    return [when, ...this.plans.map((plan) => `${plan.short} ${ROMAN[row.plans[plan.id]] ?? "–"}`)].join(" · ");
  }

  // A plan kept by choice whose picture stays: which one changes is said, and is one step away.
  #tellOther() {
    const own = this.most.some((one) => one.plan === this.plan());
    const first = this.most[0];
    this.note.hidden = own || this.shown === "present";
    if (this.note.hidden) return;
    if (!first) return replace(this.note, el("span", { text: this.say("nothing_changes") }));
    const button = el("button", { cls: "place", text: first.plan.short, attrs: { type: "button" }, on: { click: () => this.#turnTo(first, true) } });
    return replace(this.note, el("span", { text: this.say("plan_stays", { plan: this.plan().short }) }), button);
  }

  // The plans whose picture changes: those as supposed at once, then those by what follows (`index`);
  // first whose own level changes, the gravest new one before others.
  #mostChanged() {
    const found = this.plans.map((plan) => this.#changeNow(plan) ?? this.#changeLater(plan)).filter(Boolean);
    return found.sort((a, b) => a.order.map((part, at) => part - b.order[at]).find(Boolean) ?? 0);
  }

  #changeNow(plan) {
    const { present, hypothetical, difference } = this.answer;
    const [before, after] = [present, hypothetical].map((side) => side.plans[plan.id]?.level ?? null);
    const measure = plan.measures[0];
    const moved = difference.districts.filter((row) => row.plans && (row.plans.from?.[plan.id] ?? null) !== (row.plans.to?.[plan.id] ?? null));
    const shares = difference.districts.filter((row) => !same(fraction(measure, side(row, "from")), fraction(measure, side(row, "to"))));
    if (before === after && !moved.length && !shares.length) return null;
    const gravest = Math.min(before === after ? NO_LEVEL : (after ?? NO_LEVEL), ...moved.map((row) => row.plans.to?.[plan.id] ?? NO_LEVEL));
    return { plan, index: null, order: [0, before === after ? 1 : 0, gravest, -moved.length, -shares.length] };
  }

  #changeLater(plan) {
    const { present } = this.answer;
    const before = present.plans[plan.id]?.level ?? null;
    const was = new Map(present.districts.map((row) => [row.adcode, row.plans?.[plan.id] ?? null]));
    const changes = (row) => (row.plans[plan.id] ?? null) !== before || [...row.levels].some(([code, levels]) => (levels[plan.id] ?? null) !== (was.get(code) ?? null));
    const index = this.rows.findIndex(changes);
    if (index < 0) return null;
    const levels = this.rows.map((row) => row.plans[plan.id] ?? NO_LEVEL);
    return { plan, index, order: [1, levels.some((one) => one !== (before ?? NO_LEVEL)) ? 0 : 1, Math.min(...levels), index, 0] };
  }
}

// Each row with the levels of every district by then; the rows themselves hold what changes.
function accumulated(timeline) {
  let levels = new Map();
  return timeline.map((row) => {
    levels = new Map([...levels, ...row.districts.map(({ adcode, plans }) => [adcode, plans ?? {}])]);
    return { ...row, levels };
  });
}

function side(row, name) {
  return { facilities: row.facilities?.[name], load: row.load?.[name], customers: row.customers?.[name] };
}

function same(a, b) {
  return a?.part === b?.part && a?.whole === b?.whole;
}
