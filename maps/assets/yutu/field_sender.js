// Sends what waits, oldest first, a photo after its incident. A report is sent as the very same
// bytes until the server has answered it, so that a lost answer never makes a second incident.

import * as store from "./field_store.js";

const PATIENCE_MS = 60000;

export class Sender {
  // `changed(line)` after every step; line: sending, idle, offline, signed_out, busy
  constructor(lang, changed) {
    this.lang = lang;
    this.changed = changed;
    this.running = false;
    this.again = false;
    this.line = "idle";
    this.left = false;
  }

  // Ends the session on the server; false when that was not to be had.
  async signOut(url) {
    const answer = await this.#post(url, { redirect: "manual" });
    // a redirect to the sign-in page is told only as opaque; 401: the session was over already
    if (!answer || !(answer.redirected || answer.status === 401)) return false;
    this.left = true;
    await store.leave(this.username ?? (await store.about("account")));
    this.#tell("signed_out");
    return true;
  }

  async send() {
    if (this.left) return;
    if (this.running) {
      this.again = true;
      return;
    }
    this.running = true;
    try {
      do {
        this.again = false;
        if (navigator.locks) await navigator.locks.request("yutu-field-send", () => this.#round());
        else await this.#round();
      } while (this.again);
    } finally {
      this.running = false;
      this.changed(this.line);
    }
  }

  async #round() {
    if (!(await this.#session())) return;
    this.#tell("sending");
    for (const one of await store.reports()) {
      if (one.state === "waiting" && this.#mine(one) && !(await this.#report(one))) return;
    }
    const sent = new Map((await store.reports()).map((one) => [one.key, one]));
    for (const photo of await store.photos()) {
      const one = sent.get(photo.report);
      if (photo.state === "waiting" && one?.state === "sent" && this.#mine(one)) {
        if (!(await this.#photo(photo, one))) return;
      }
    }
    this.#tell("idle");
  }

  #tell(line) {
    this.line = line;
    this.changed(line);
  }

  // What one person filed is not sent in another's name.
  #mine(one) {
    return !one.account || one.account === this.username;
  }

  async #session() {
    const answer = await this.#fetch("/v1/session", {});
    if (!answer) return false;
    if (!answer.ok) return this.#stop(answer.status === 401 ? "signed_out" : "busy");
    const told = await answer.json();
    if (this.left) return this.#stop("signed_out");
    this.csrf = told.csrf;
    this.username = told.username;
    await store.setAbout("account", told.username);
    return true;
  }

  #stop(line) {
    this.#tell(line);
    return false;
  }

  async #fetch(url, options) {
    const aborter = new AbortController();
    const timer = setTimeout(() => aborter.abort(), PATIENCE_MS);
    try {
      const answer = await fetch(url, {
        credentials: "same-origin",
        cache: "no-store",
        redirect: "error",
        ...options,
        headers: { Accept: "application/json", "Accept-Language": this.lang(), ...options.headers },
        signal: aborter.signal,
      });
      // the body too may be cut off
      const body = await answer.text();
      const redirected = answer.type === "opaqueredirect";
      return { status: answer.status, ok: answer.ok, redirected, json: async () => JSON.parse(body) };
    } catch {
      this.#stop("offline");
      return null;
    } finally {
      clearTimeout(timer);
    }
  }

  // Posts with the session's token, once more with a new one if that was out of date.
  async #post(url, options) {
    for (let attempt = 0; ; attempt += 1) {
      const headers = { ...options.headers, "X-CSRF-Token": this.csrf ?? "" };
      const answer = await this.#fetch(url, { ...options, method: "POST", headers });
      if (!answer) return null;
      if (answer.status !== 403 || attempt > 0) return answer;
      if (!(await this.#session())) return null;
    }
  }

  // Whether to go on: false when nothing can be sent now.
  async #report(one) {
    const answer = await this.#post("/v1/incidents", {
      headers: { "Content-Type": "application/json" },
      body: one.body,
    });
    if (!answer) return false;
    const verdict = await judge(answer);
    if (verdict.line) return this.#stop(verdict.line);
    await store.keep({ ...one, ...verdict, answered_at: new Date().toISOString() });
    this.changed(this.line);
    return true;
  }

  async #photo(photo, one) {
    const form = new FormData();
    form.append("attachment_id", photo.attachment_id);
    form.append("file", new Blob([photo.bytes], { type: photo.type }), photo.name);
    const answer = await this.#post(`/v1/incidents/${one.incident_id}/attachments`, { body: form });
    if (!answer) return false;
    const verdict = await judge(answer);
    if (verdict.line) return this.#stop(verdict.line);
    const rest = { ...photo, state: verdict.state, problem: verdict.problem };
    if (rest.state === "sent") delete rest.bytes; // the server has it; the device has its space back
    await store.keepPhoto(rest);
    this.changed(this.line);
    return true;
  }
}

// {line}: wait; {state: "sent", receipt}; {state: "refused", problem}.
async function judge(answer) {
  if (answer.status === 401) return { line: "signed_out" };
  if (answer.status >= 500 || [408, 425, 429].includes(answer.status)) return { line: "busy" };
  let told;
  try {
    told = await answer.json();
  } catch {
    return { line: "busy" }; // not this server's words: a portal or proxy in between
  }
  if (answer.ok) return { state: "sent", receipt: told, problem: null };
  const { title, detail, errors } = told;
  return { state: "refused", problem: { status: answer.status, title, detail, errors } };
}
