// What was filed on this device: waiting, sent with its receipt, or refused with the reason.

import { dayAndTime, el, openWords, ROMAN, replace } from "./dom.js";

const HAN = /\p{Script=Han}/u;

export function drawQueue(node, { reports, photos, account, say, nameOf, graded, districtName, mend, drop }) {
  const rows = reports.toReversed().map((one) => {
    const its = photos.filter((photo) => photo.report === one.key);
    return el("article", { cls: `report ${one.state}`, data: { state: one.state, id: one.incident_id } },
      el("header", {}, el("b", { text: nameOf(one.draft) }), el("span", { cls: "state", text: say(`state_${one.state}`) })),
      el("p", { cls: "quiet", text: [dayAndTime(one.draft.occurred_at), one.draft.address].filter(Boolean).join(" · ") }),
      one.state === "sent" ? receipt(one, say, districtName, graded(one.draft)) : null,
      one.state === "refused" ? refusal(one, say) : null,
      one.state === "waiting" && one.account && one.account !== account
        ? el("p", { cls: "why", text: say("other_account", { name: one.account }) }) : null,
      its.length ? el("p", { cls: "quiet", text: say("photos_count", { n: its.length, sent: its.filter((p) => p.state === "sent").length }) }) : null,
      ...its.filter((p) => p.state === "refused").map((p) => el("p", { cls: "why", text: say("photo_refused", { why: reasons(p.problem, say).join("；") }) })),
      one.state === "refused"
        ? el("div", { cls: "pickers" },
            el("button", { cls: "wide strong mend", text: say("mend"), attrs: { type: "button" }, on: { click: () => mend(one, its) } }),
            el("button", { cls: "wide", text: say("delete"), attrs: { type: "button" }, on: { click: () => drop(one) } }))
        : null);
  });
  replace(node, el("h2", { text: say("reports") }), rows.length ? rows : el("p", { cls: "quiet", text: say("none") }));
}

function receipt({ receipt: told, answered_at }, say, districtName, graded) {
  const level = told.assessment?.level;
  const outside = (told.warnings ?? []).some((one) => one.code === "outside");
  const pair = (key, text) => [el("dt", { text: say(key) }), el("dd", { text })];
  return el("div", {},
    el("dl", {},
      pair("district", districtName(told.adcode) ?? say(outside ? "outside_city" : "unplaced")),
      pair("level", levelOf(told.assessment, say, graded)),
      pair("answered", dayAndTime(answered_at)),
      pair("receipt", told.incident_id)),
    ...(told.warnings ?? []).map((one) => el("p", { cls: "why mild", text: one.text })),
    told.probable_duplicates?.length ? el("p", { cls: "why mild", text: say("duplicates", { n: told.probable_duplicates.length }) }) : null);
}

// Unknown is not zero: no level reached with facts missing is a level that is open.
function levelOf(assessment, say, graded) {
  const level = ROMAN[assessment?.level];
  const open = level || graded ? openWords(assessment?.bounds, say) : null;
  if (level) return [say("level_of", { level }), open].filter(Boolean).join(" · ");
  return open ?? say(graded ? "level_none" : "level_by_district");
}

function refusal({ problem }, say) {
  return el("ul", { cls: "why" }, reasons(problem, say).map((text) => el("li", { text })));
}

export function reasons(problem, say) {
  if (!problem) return [];
  const named = (field) => {
    const key = `field_${field.replace(/^facts\./, "")}`;
    return say(key) === key ? field : say(key);
  };
  const listed = (problem.errors ?? []).map(({ field, reason }) => {
    if (!field) return reason;
    const key = `hint_${field}`;
    const known = say(key) === key ? "" : say(key);
    // the server's own words say more, if they are in the page's language
    const hint = known && !HAN.test(reason) ? known : reason;
    return `${named(field)}：${hint}`;
  });
  if (listed.length) return listed;
  const known = `refused_${problem.status}`;
  if (say(known) !== known) return [say(known)];
  return [[problem.title, problem.detail].filter(Boolean).join(": ") || String(problem.status)];
}
