// Wires the page together: one state, drawn again whenever the situation or a choice changes.

import { AssessmentPanel } from "./assessment.js";
import { Choropleth } from "./choropleth.js";
import { CityView } from "./city_view.js";
import { Connection } from "./connection.js";
import { DistrictCard } from "./district.js";
import { el, replace, speaker } from "./dom.js";
import { Header } from "./header.js";
import { IncidentList } from "./incidents.js";
import { Inset } from "./inset.js";
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

const incidentFeature = (id) => points.features.find((f) => f.properties?.incident_id === id);
const incidentOf = (id) => incidentFeature(id)?.properties;
const kindOf = (id) => (incidentOf(id) ? incidents.name(incidentOf(id)) : null);

map.createPane("labels").style.zIndex = "450";
map.getPane("labels").style.pointerEvents = "none";
L.control.zoom({ position: "topright", zoomInTitle: say("zoom_in"), zoomOutTitle: say("zoom_out") }).addTo(map);
L.control.scale({ imperial: false, position: "bottomleft" }).addTo(map);

const cityView = new CityView({ map, layer, say });

const pick = (code) => select(code, true, true);
const choropleth = new Choropleth({ map, layer, style: page.style, say, onSelect: select });
const incidents = new IncidentList({
  say,
  nameOf,
  kinds: page.kinds,
  unknowns: ({ unknown }) => (unknown ?? []).map((fact) => state.plan?.metrics[fact] ?? fact).join(say("comma")),
  onShow: showIncident,
});
const panel = new AssessmentPanel({
  root: byId("reasons"),
  say,
  nameOf,
  incidentOf,
  kindOf,
  incidents: () => incidents.section(points.open()),
  onSelect: pick,
  onIncident: (id) => showIncident(incidentFeature(id)),
});
const centre = choropleth.centre();
cityView.addButtons(centre);
const inset = centre ? new Inset({ root: byId("inset"), main: choropleth, centre, style: page.style, say, onSelect: pick }) : null;
const table = new DistrictTable({ root: byId("table"), say, nameOf, onSelect: pick });
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
    choropleth.labels.layout(); // out of the way of what has come
    inset?.mark(points.places());
  },
});
choropleth.labels.obstacles = () => points.obstacles();
points.tucked = (at) => Boolean(inset?.tells(at));
if (inset) inset.onChange = () => points.plan && points.draw();

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

// `zoom`: chosen elsewhere than on the map, which goes there then.
function select(code, focus = true, zoom = false) {
  const known = features.has(code);
  choropleth.select(known ? code : null);
  card.show(code, state.situation, focus);
  if (known && zoom) showDistrict(code);
  else if (known) choropleth.reveal(code);
  draw();
}

// The district in that part of the map which the card leaves free.
function showDistrict(code) {
  if (stacked.matches) map.getContainer().scrollIntoView({ block: "start" });
  const ground = map.getContainer().getBoundingClientRect();
  const over = card.root.getBoundingClientRect();
  const covered = stacked.matches ? { bottom: Math.max(0, ground.bottom - over.top) } : { left: Math.max(0, over.right - ground.left) };
  choropleth.zoomTo(code, covered);
}

function showIncident(feature) {
  if (!feature) return;
  if (feature.geometry?.type === "Point") points.reveal(feature);
  else pick(feature.properties.adcode);
  if (stacked.matches) map.getContainer().scrollIntoView({ block: "start" });
}

function draw() {
  header.show(state.situation, state.plan);
  const active = document.activeElement;
  choropleth.paint(state.situation, state.plan, state.measure);
  // Raising a path moves it in the document, which drops the keyboard focus.
  if (active instanceof SVGElement && active.isConnected && document.activeElement !== active) active.focus({ preventScroll: true });
  inset?.paint(state.situation, state.plan, state.measure, choropleth.selected);
  showLegend();
  panel.show(state.situation?.plans?.[state.plan.id], state.plan);
  table.show(state.situation, state.plan);
  if (card.adcode && !card.root.contains(document.activeElement)) card.show(card.adcode, state.situation);
}

function onSituation(situation) {
  state.situation = situation;
  document.body.dataset.sequence = situation.sequence;
  draw();
  if (page.at) return;
  points.soon(); // outages come and go with the situation
  teams.soon(); // and so do positions: every change is a situation
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
  onState: (news) => header.state(news),
  onEvent: (kind) => kind === "incident" && points.soon(),
});

const header = new Header({ page, say, now: () => connection.now(), onPlan: choosePlan });
for (const name of ["reasons", "table"]) {
  byId(`view-${name}`).addEventListener("click", () => chooseView(name));
  byId(`view-${name}`).addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = name === "reasons" ? "table" : "reasons";
    chooseView(other);
    byId(`view-${other}`).focus();
  });
}

choosePlan(location.hash.slice(1) || page.plan, false);
chooseView("reasons");
if (window.matchMedia("(max-width: 1100px)").matches) byId("legend").open = false; // it would cover districts
if (page.situation) onSituation(page.situation);
connection.start();
points.load();
teams.load();
setInterval(() => !page.at && points.load(), 60000);
setInterval(() => !page.at && teams.draw(), 15000); // the clock alone makes them stale
