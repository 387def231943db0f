// The time the page is about: now, or a past one; changing it opens the page again at that time.

import { dayAndTime } from "./dom.js";
import { words } from "./planner_api.js";

const CITY_OFFSET = "+08:00";
const CITY_OFFSET_MS = 8 * 3600 * 1000;

export class When {
  constructor({ api, url, at, lang, say, faults }) {
    Object.assign(this, { api, url, at, lang, say, faults });
    this.kind = document.getElementById("when-kind");
    this.input = document.getElementById("when-at");
    this.note = document.getElementById("when-note");
    // a browser may remember what was chosen before
    this.kind.value = at ? "past" : "now";
    this.input.value = local(at ? Date.parse(at) : Date.now());
    this.kind.addEventListener("change", () => this.changed());
    document.getElementById("when").addEventListener("submit", (event) => {
      event.preventDefault();
      this.go();
    });
    window.addEventListener("pageshow", () => this.busy("")); // also when it is come back to
    this.draw();
  }

  // What is being opened; said before anything is asked for, and until the other page is there.
  busy(words) {
    this.note.textContent = words;
    document.getElementById("when").setAttribute("aria-busy", String(Boolean(words)));
    document.getElementById("when-go").disabled = Boolean(words);
  }

  draw() {
    document.getElementById("when-past").hidden = this.kind.value !== "past";
  }

  changed() {
    this.faults.clear();
    this.draw();
    if (this.kind.value === "past") this.input.focus();
    else if (this.at) {
      this.busy(this.say("time_to_now"));
      location.assign(`${this.url}?${new URLSearchParams({ lang: this.lang })}`);
    }
  }

  // The page at that time is asked for first, so that a refusal is told here.
  async go() {
    this.faults.clear();
    const { value } = this.input;
    if (!value) return this.faults.at("at", this.say("time_missing"));
    const at = `${value.length === 16 ? `${value}:00` : value}${CITY_OFFSET}`;
    if (Date.parse(at) > Date.now()) return this.faults.at("at", this.say("time_future"));
    this.busy(this.say("time_reading", { time: dayAndTime(at) }));
    const address = `${this.url}?${new URLSearchParams({ lang: this.lang, at })}`;
    try {
      await this.api.ask("GET", address, undefined, "application/json");
    } catch (refusal) {
      this.busy("");
      return refusal.faults?.length ? this.faults.show(refusal) : this.faults.at("at", words(refusal, this.say));
    }
    return location.assign(address);
  }
}

// An instant as the city's clock shows it, for the input.
function local(ms) {
  return new Date(ms + CITY_OFFSET_MS).toISOString().slice(0, 19);
}
