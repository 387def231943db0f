// The real situation in the header: levels of the plans, how old they are, whether the line holds.

import { levelIsOpen } from "./assessment.js";
import { age, clockTime, dayAndTime, el, integer, levelBadge, levelWords, percent, replace, sinceWords } from "./dom.js";

const byId = (id) => document.getElementById(id);

export class Header {
  // `now` is the server's clock; `onPlan` is told which plan someone chooses.
  constructor({ page, say, now, onPlan }) {
    Object.assign(this, { page, say, now });
    this.line = null; // a line that is up and has nothing new must not look like one that is cut
    this.situation = null;
    for (const plan of page.plans) byId(`plan-${plan.id}`).addEventListener("click", () => onPlan(plan.id));
    byId("language").addEventListener("click", () => {
      document.cookie = `yutu_lang=${byId("language").dataset.lang}; path=/; max-age=31536000; samesite=lax`;
    });
    if (page.at) {
      byId("past").hidden = false;
      byId("past-time").textContent = dayAndTime(page.at);
      byId("line").hidden = true;
    }
    setInterval(() => this.time(), 1000);
  }

  show(situation, chosen) {
    this.situation = situation;
    byId("past-reading").hidden = Boolean(situation) || this.line === "refused";
    const { say } = this;
    for (const plan of this.page.plans) {
      const tab = byId(`plan-${plan.id}`);
      const assessment = situation?.plans?.[plan.id];
      const level = assessment?.level ?? null;
      const open = levelIsOpen(assessment);
      const words = level ? levelWords(level, assessment.severity, say) : say(open ? "level_open" : assessment ? "not_reached" : "no_assessment_short");
      tab.setAttribute("aria-pressed", String(plan === chosen));
      tab.classList.toggle("calm", Boolean(assessment?.below_noise_floor));
      tab.dataset.level = level ?? "";
      replace(tab, levelBadge(level, say, "tab", open), el("span", { cls: "tab-words" }, el("b", { text: plan.short }), el("span", { text: words })));
    }
    this.synthetic(situation);
    this.time();
  }

  // How many facilities of the inventory in force are synthetic, exactly as they are counted.
  synthetic(situation) {
    const share = Number(situation?.synthetic ?? 0);
    const { facilities: all, synthetic: part } = situation?.inventory ?? {};
    byId("synthetic").hidden = share <= 0;
    byId("synthetic").textContent = share < 1 ? this.say("synthetic_part", { all: integer(all), part: integer(part), share: percent(share) }) : this.say("synthetic");
  }

  time() {
    const { situation, say, line } = this;
    if (!situation) return;
    byId("as-of").textContent = dayAndTime(situation.as_of);
    if (this.page.at) return;
    const seconds = (this.now() - Date.parse(situation.as_of)) / 1000;
    const live = line === "live";
    byId("line-words").textContent = say(live ? "line_live" : line ? "line_lost" : "line_connecting");
    byId("age").textContent = live ? sinceWords(situation.as_of, seconds, say) : line ? say("before_cut") : age(seconds, say);
    byId("time").dataset.line = line ?? "";
  }

  state(news) {
    const [banner, dot] = [byId("connection"), byId("line")];
    this.line = news.kind;
    dot.dataset.state = news.kind;
    const told = (key) => {
      dot.title = this.say(key);
      dot.setAttribute("aria-label", this.say(key));
    };
    if (news.kind === "lost") {
      banner.textContent = this.say("lost_since", { time: clockTime(news.since) });
      told("line_lost");
    } else if (news.kind === "signed_out") {
      this.signedOut();
    } else if (news.kind === "refused") {
      banner.textContent = this.say("refused", { why: news.why || news.status });
      byId("past-reading").hidden = true;
    } else if (news.kind === "unread") {
      banner.textContent = this.say("unread");
    } else {
      told("line_live");
    }
    banner.hidden = news.kind === "live";
    this.time();
  }

  signedOut() {
    const target = `${location.pathname}${location.search}`;
    const link = el("a", { text: this.say("sign_in"), attrs: { href: `${this.page.urls.login}?next=${encodeURIComponent(target)}` } });
    replace(byId("connection"), el("span", { text: this.say("signed_out") }), link);
    byId("connection").hidden = false;
  }
}
