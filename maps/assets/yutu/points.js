// Incidents and reported outages over the districts; no layer where the account may not read them.

import { dayAndTime, el, levelBadge, mayBeGraver, openWords, ROMAN } from "./dom.js";

const REFRESH_MS = 1000;
const NEAR_ZOOM = 11;
const OVER = new Set(["resolved", "rejected", "duplicate"]);

export class Points {
  constructor({ map, urls, at, say, style, kinds, onChange }) {
    Object.assign(this, { map, urls, at, say, style, kinds, onChange });
    this.incidents = L.layerGroup().addTo(map);
    this.outages = L.layerGroup().addTo(map);
    this.features = [];
    this.markers = new Map();
    this.turn = 0;
    this.asked = 0;
    this.plan = null;
    this.shown = 0;
    this.unsettled = 0;
    this.extents = 0;
    this.tucked = () => false;
  }

  // At once, but in a burst of events once a second at most.
  soon() {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.load();
    }, Math.max(0, this.asked + REFRESH_MS - Date.now()));
  }

  async load() {
    this.asked = Date.now();
    const turn = (this.turn += 1);
    const [incidents, outages] = await Promise.all([this.fetch(this.urls.incidents, { state: "open" }), this.fetch(this.urls.outages, { open: "true" })]);
    if (turn !== this.turn) return; // a later question is on its way
    this.features = incidents;
    this.drawOutages(outages);
    this.draw();
  }

  async fetch(url, extra = {}) {
    if (!url) return [];
    const query = new URLSearchParams(extra);
    if (this.at) query.set("at", this.at);
    try {
      const answer = await fetch(`${url}?${query}`, { cache: "no-cache", credentials: "same-origin", signal: AbortSignal.timeout(8000) });
      if (!answer.ok) return [];
      const body = await answer.json();
      return Array.isArray(body.features) ? body.features : [];
    } catch {
      return [];
    }
  }

  show(plan) {
    this.plan = plan;
    this.draw();
  }

  // The open incidents of the plan shown, also those without a place.
  open() {
    return this.features.filter(({ properties: p }) => p && (!this.plan || !p.plan || p.plan === this.plan.id) && !OVER.has(p.state));
  }

  // Brings an incident to the middle of the map, with what is known of it.
  reveal(feature) {
    const [lon, lat] = feature.geometry.coordinates;
    this.map.setView([lat, lon], Math.max(this.map.getZoom(), NEAR_ZOOM), { animate: false });
    this.markers.get(feature.properties.incident_id)?.openTooltip();
  }

  // What stands on the map: where, and as what.
  places() {
    return this.open().filter((feature) => feature.geometry?.type === "Point").map((feature) => {
      const p = feature.properties;
      const level = p.assessment?.level ?? p.level ?? null;
      const [lon, lat] = feature.geometry.coordinates;
      return { feature, at: L.latLng(lat, lon), level, open: level === null && mayBeGraver(p.bounds) };
    });
  }

  // Circles that labels keep away from, pixels; small where an inset tells the same larger.
  obstacles() {
    return this.places().map(({ at }) => ({ at, radius: this.tucked(at) ? 6 : 14 }));
  }

  draw() {
    this.incidents.clearLayers();
    this.markers.clear();
    const places = this.places();
    this.shown = places.length;
    this.unsettled = places.filter(({ open }) => open).length;
    for (const { feature, at, level, open } of places) {
      const icon = L.divIcon({ className: this.tucked(at) ? "incident-icon tucked" : "incident-icon", iconSize: [24, 24], html: levelBadge(level, this.say, "round", open) });
      const gravity = level ? 5 - level : open ? 0.5 : 0;
      const marker = L.marker(at, { icon, keyboard: true, alt: this.say("incident"), zIndexOffset: gravity * 1000 });
      marker.bindTooltip(this.tip(feature.properties, level), { direction: "top", className: "district-tip", offset: [0, -10] });
      marker.addTo(this.incidents);
      this.markers.set(feature.properties.incident_id, marker);
    }
    this.onChange();
  }

  tip(properties, level) {
    const kind = properties.kind ? (this.kinds[properties.kind] ?? properties.kind) : this.say("incident");
    return el(
      "div",
      {},
      el("b", { text: level ? `${ROMAN[level]} ${kind}` : kind }),
      openWords(properties.bounds, this.say) ? el("div", { text: openWords(properties.bounds, this.say) }) : null,
      properties.address ? el("div", { text: properties.address }) : null,
      properties.occurred_at ? el("div", { cls: "quiet", text: dayAndTime(properties.occurred_at) }) : null,
    );
  }

  drawOutages(features) {
    this.outages.clearLayers();
    this.extents = 0;
    for (const feature of features) {
      if (!feature.geometry || !/Polygon$/.test(feature.geometry.type)) continue;
      const p = feature.properties ?? {};
      const layer = L.geoJSON(feature, {
        style: { color: "#3b2a52", weight: 1.5, dashArray: p.planned ? "2 4" : "6 4", fillColor: "#3b2a52", fillOpacity: p.planned ? 0.04 : 0.12 },
        interactive: true,
      });
      layer.bindTooltip(
        el(
          "div",
          {},
          el("b", { text: this.say(p.planned ? "outage_planned" : "outage") }),
          p.cause ? el("div", { text: p.cause }) : null,
          p.started_at ? el("div", { cls: "quiet", text: dayAndTime(p.started_at) }) : null,
        ),
        { sticky: true, className: "district-tip" },
      );
      layer.addTo(this.outages);
      this.extents += 1;
    }
  }
}
