// Where the teams are, over the districts: filled while fresh, hollow once stale by the clock alone.

import { age, el } from "./dom.js";

const REFRESH_MS = 1000;
const KEY = "yutu.teams";

export class Teams {
  constructor({ map, url, at, say, now, onChange }) {
    Object.assign(this, { map, url, at, say, now, onChange });
    this.layer = L.layerGroup();
    this.features = [];
    this.turn = 0;
    this.asked = 0;
    this.shown = 0;
    this.stale = 0;
    if (!url) return;
    this.on = remembered();
    if (this.on) this.layer.addTo(map);
    map.addControl(this.control());
  }

  control() {
    const control = new L.Control({ position: "bottomleft" });
    control.onAdd = () => {
      this.button = el("button", { cls: "centre layer-switch", text: this.say("teams"), attrs: { type: "button", id: "teams", "aria-pressed": this.on, title: this.say("teams_title") }, on: { click: () => this.toggle() } });
      L.DomEvent.disableClickPropagation(this.button);
      return this.button;
    };
    return control;
  }

  toggle() {
    this.on = !this.on;
    this.button.setAttribute("aria-pressed", String(this.on));
    if (this.on) this.layer.addTo(this.map);
    else this.layer.remove();
    try {
      localStorage.setItem(KEY, this.on ? "on" : "off");
    } catch {
      // a browser that stores nothing shows them next time again
    }
    this.draw();
    if (this.on) this.soon();
  }

  // At once, but with positions arriving all the time once a second at most.
  soon() {
    if (!this.url || !this.on) return;
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.load();
    }, Math.max(0, this.asked + REFRESH_MS - Date.now()));
  }

  async load() {
    if (!this.url) return;
    this.asked = Date.now();
    const turn = (this.turn += 1);
    const query = new URLSearchParams({ limit: "5000" });
    if (this.at) query.set("at", this.at);
    try {
      const answer = await fetch(`${this.url}?${query}`, { cache: "no-cache", credentials: "same-origin", signal: AbortSignal.timeout(8000) });
      if (!answer.ok) return;
      const body = await answer.json();
      if (turn !== this.turn || !Array.isArray(body.features)) return; // a later question is on its way
      this.features = body.features;
      this.draw();
    } catch {
      // shown as they were; their age goes on growing
    }
  }

  draw() {
    this.layer.clearLayers();
    this.shown = 0;
    this.stale = 0;
    for (const feature of this.on ? this.features : []) {
      const p = feature.properties ?? {};
      if (feature.geometry?.type !== "Point") continue;
      const [lon, lat] = feature.geometry.coordinates;
      const stale = this.at ? p.stale : Date.parse(p.stale_at) <= this.now();
      const sign = el("span", { cls: stale ? "team stale" : "team", attrs: { role: "img", "aria-label": p.callsign } });
      const marker = L.marker([lat, lon], { icon: L.divIcon({ className: "team-icon", iconSize: [18, 18], html: sign }), keyboard: true, alt: p.callsign });
      marker.bindTooltip(() => this.tip(p, stale), { direction: "top", className: "district-tip", offset: [0, -8] });
      marker.addTo(this.layer);
      this.shown += 1;
      this.stale += stale ? 1 : 0;
    }
    this.onChange();
  }

  tip(p, stale) {
    const seconds = this.at ? p.age_s : (this.now() - Date.parse(p.observed_at)) / 1000;
    return el(
      "div",
      {},
      el("b", { text: p.callsign }),
      p.group || p.role ? el("div", { text: [p.group, p.role].filter(Boolean).join(" · ") }) : null,
      el("div", { cls: "quiet", text: age(seconds, this.say) }),
      stale ? el("div", { cls: "quiet", text: this.say("team_stale") }) : null,
    );
  }
}

function remembered() {
  try {
    return localStorage.getItem(KEY) !== "off";
  } catch {
    return true;
  }
}
