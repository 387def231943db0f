// Wires the page together: one state, drawn again whenever the situation or a choice changes.

import { AssessmentPanel } from "./assessment.js";
import { Choropleth } from "./choropleth.js";
import { Connection } from "./connection.js";
import { DistrictCard } from "./district.js";
import { age, clockTime, dayAndTime, el, levelBadge, levelWords, replace, speaker } from "./dom.js";
import { IncidentList } from "./incidents.js";
import { Legend } from "./legend.js";
import { Points } from "./points.js";
import { DistrictTable } from "./table.js";
import { Teams } from "./teams.js";

const page = JSON.parse(document.getElementById("yutu-page").textContent);
const say = speaker(page.words);
const byId = (id) => document.getElementById(id);
const map = window[page.map];
const layer = window[page.layer];

const stacked = window.matchMedia("(max-width: 860px)"); // the panel is below the map
const state = { situation: null, plan: null, measure: null, view: "reasons" };

const features = new Map();
layer.eachLayer((path) => features.set(path.feature.properties.adcode, path.feature));
const nameOf = (code) =>
  features.get(code)?.properties.name ??
  (state.situation?.units ?? []).find((unit) => unit.code === code)?.name ??
  (state.situation?.districts ?? []).find((d) => d.adcode === code)?.name ??
  code;

const incidentOf = (id) => points.features.find((f) => f.properties?.incident_id === id)?.properties;
const districtOf = (id) => incidentOf(id)?.adcode ?? null;
const kindOf = (id) => (incidentOf(id) ? incidents.name(incidentOf(id)) : null);

map.createPane("labels").style.zIndex = "450";
map.getPane("labels").style.pointerEvents = "none";
L.control.zoom({ position: "topright", zoomInTitle: say("zoom_in"), zoomOutTitle: say("zoom_out") }).addTo(map);
L.control.scale({ imperial: false, position: "bottomleft" }).addTo(map);

const choropleth = new Choropleth({ map, layer, style: page.style, say, onSelect: select });
const incidents = new IncidentList({ say, nameOf, kinds: page.kinds, onShow: showIncident });
const panel = new AssessmentPanel({
  root: byId("reasons"),
  say,
  nameOf,
  districtOf,
  kindOf,
  incidents: () => incidents.section(points.open()),
  onSelect: select,
});
const centre = choropleth.centre();
if (centre) map.addControl(centreControl(centre));
const table = new DistrictTable({ root: byId("table"), say, nameOf, onSelect: select });
const legend = new Legend({ root: byId("legend-body"), say, style: page.style });
const card = new DistrictCard({
  root: byId("card"),
  say,
  plans: page.plans,
  kinds: page.kinds,
  featureOf: (code) => features.get(code),
  onClose: () => {
    const was = choropleth.selected;
    choropleth.select(null);
    draw();
    if (was) choropleth.paths.get(was)?.getElement().focus({ preventScroll: true });
  },
});
const points = new Points({
  map,
  urls: page.urls,
  at: page.at,
  say,
  style: page.style,
  kinds: page.kinds,
  onChange: () => {
    showLegend();
    panel.show(state.situation?.plans?.[state.plan.id], state.plan);
  },
});

const teams = new Teams({
  map,
  url: page.urls.teams,
  at: page.at,
  say,
  now: () => connection.now(),
  onChange: showLegend,
});

function showLegend() {
  if (state.plan) legend.show(state.plan, state.measure, choropleth, points, teams);
}

function fit() {
  map.invalidateSize({ animate: false });
  map.fitBounds(layer.getBounds(), { padding: [14, 14], animate: false });
}

// To the small districts in the middle, whose names the whole city has no room for.
function centreControl(bounds) {
  const control = new L.Control({ position: "bottomleft" });
  control.onAdd = () => {
    const zoom = () => map.fitBounds(bounds, { padding: [14, 14], animate: false });
    const button = el("button", { cls: "centre", text: say("centre"), attrs: { type: "button", id: "centre", title: say("centre_title") }, on: { click: zoom } });
    L.DomEvent.disableClickPropagation(button);
    return button;
  };
  return control;
}

function choosePlan(id, remember = true) {
  state.plan = page.plans.find((plan) => plan.id === id) ?? page.plans[0];
  state.measure = state.plan.measures[0];
  if (remember && page.plans.length > 1) history.replaceState(null, "", `#${state.plan.id}`);
  document.title = `${state.plan.short} · ${say("title")}`;
  replace(
    byId("measures"),
    state.plan.measures.length > 1
      ? state.plan.measures.map((measure) =>
          el("button", {
            text: measure.short,
            attrs: { type: "button", "aria-pressed": measure === state.measure },
            data: { measure: measure.id },
            on: { click: () => chooseMeasure(measure) },
          }),
        )
      : [],
  );
  draw();
  points.show(state.plan);
}

function chooseMeasure(measure) {
  state.measure = measure;
  for (const button of byId("measures").children) button.setAttribute("aria-pressed", String(button.dataset.measure === measure.id));
  draw();
}

function select(code, focus = true) {
  const known = features.has(code);
  choropleth.select(known ? code : null);
  if (known) choropleth.reveal(code);
  card.show(code, state.situation, focus);
  draw();
}

function showIncident(feature) {
  if (feature.geometry?.type === "Point") points.reveal(feature);
  else select(feature.properties.adcode);
  if (stacked.matches) map.getContainer().scrollIntoView({ block: "start" });
}

function drawPlans() {
  for (const plan of page.plans) {
    const tab = byId(`plan-${plan.id}`);
    const assessment = state.situation?.plans?.[plan.id];
    const level = assessment?.level ?? null;
    const words = level
      ? levelWords(level, assessment.severity, say)
      : say(assessment ? "not_reached" : "no_assessment_short");
    tab.setAttribute("aria-pressed", String(plan === state.plan));
    tab.classList.toggle("calm", Boolean(assessment?.below_noise_floor));
    tab.dataset.level = level ?? "";
    replace(tab, levelBadge(level, say, "tab"), el("span", { cls: "tab-words" }, el("b", { text: plan.short }), el("span", { text: words })));
  }
}

function draw() {
  drawPlans();
  const active = document.activeElement;
  choropleth.paint(state.situation, state.plan, state.measure);
  // Raising a path moves it in the document, which drops the keyboard focus.
  if (active instanceof SVGElement && active.isConnected && document.activeElement !== active) active.focus({ preventScroll: true });
  showLegend();
  panel.show(state.situation?.plans?.[state.plan.id], state.plan);
  table.show(state.situation, state.plan);
  if (card.adcode && !card.root.contains(document.activeElement)) card.show(card.adcode, state.situation);
}

function drawTime() {
  const situation = state.situation;
  if (!situation) return;
  byId("as-of").textContent = dayAndTime(situation.as_of);
  byId("age").textContent = page.at ? "" : age((connection.now() - Date.parse(situation.as_of)) / 1000, say);
}

function drawSynthetic() {
  const value = state.situation?.synthetic;
  const some = value === true || (typeof value === "number" && value > 0);
  const partly = typeof value === "number" && value > 0 && value < 1;
  byId("synthetic").hidden = !some;
  byId("synthetic").textContent = partly ? say("synthetic_part", { n: Math.max(1, Math.floor(value * 100)) }) : say("synthetic");
}

function onSituation(situation) {
  state.situation = situation;
  document.body.dataset.sequence = situation.sequence;
  draw();
  drawSynthetic();
  drawTime();
  if (page.at) return;
  points.soon(); // outages come and go with the situation
  teams.soon(); // and so do positions: every change is a situation
}

function onState(news) {
  const banner = byId("connection");
  const dot = byId("line");
  dot.dataset.state = news.kind;
  if (news.kind === "lost") {
    banner.textContent = say("lost_since", { time: clockTime(news.since) });
    dot.title = say("line_lost");
  } else if (news.kind === "signed_out") {
    const target = `${location.pathname}${location.search}`;
    replace(banner, el("span", { text: say("signed_out") }), el("a", { text: say("sign_in"), attrs: { href: `${page.urls.login}?next=${encodeURIComponent(target)}` } }));
  } else if (news.kind === "refused") {
    banner.textContent = say("refused", { status: news.status });
  } else {
    dot.title = say("line_live");
  }
  banner.hidden = news.kind === "live";
}

function chooseView(view) {
  state.view = view;
  for (const name of ["reasons", "table"]) {
    byId(name).hidden = name !== view;
    byId(`view-${name}`).setAttribute("aria-selected", String(name === view));
    byId(`view-${name}`).tabIndex = name === view ? 0 : -1;
  }
}

const connection = new Connection({
  urls: page.urls,
  at: page.at,
  lang: page.lang,
  onSituation,
  onState,
  onEvent: (kind) => kind === "incident" && points.soon(),
});

for (const plan of page.plans) byId(`plan-${plan.id}`).addEventListener("click", () => choosePlan(plan.id));
for (const name of ["reasons", "table"]) {
  byId(`view-${name}`).addEventListener("click", () => chooseView(name));
  byId(`view-${name}`).addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = name === "reasons" ? "table" : "reasons";
    chooseView(other);
    byId(`view-${other}`).focus();
  });
}
byId("language").addEventListener("click", () => {
  document.cookie = `yutu_lang=${byId("language").dataset.lang}; path=/; max-age=31536000; samesite=lax`;
});
if (page.at) {
  byId("past").hidden = false;
  byId("past-time").textContent = dayAndTime(page.at);
  byId("line").hidden = true;
}

new ResizeObserver(() => fit()).observe(map.getContainer());
fit();
choosePlan(location.hash.slice(1) || page.plan, false);
chooseView("reasons");
if (stacked.matches) byId("legend").open = false;
if (page.situation) onSituation(page.situation);
setInterval(drawTime, 1000);
connection.start();
points.load();
teams.load();
setInterval(() => !page.at && points.load(), 60000);
setInterval(() => !page.at && teams.draw(), 15000); // the clock alone makes them stale
