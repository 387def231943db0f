// The line to the API: writes carry the session's token, refusals become words at their place.

const PATIENCE_MS = 120000;

// What a request was refused with; `status` 0 is a line that is down.
export class Refusal extends Error {
  constructor(status, told = {}) {
    super(told.detail ?? told.title ?? String(status));
    this.status = status;
    this.title = told.title ?? "";
    this.detail = told.detail ?? "";
    this.faults = Array.isArray(told.errors) ? told.errors : [];
  }
}

export class Api {
  constructor({ csrf, lang, sessionUrl, onSignedOut }) {
    Object.assign(this, { csrf, lang, sessionUrl, onSignedOut });
  }

  get(url) {
    return this.#json("GET", url);
  }

  post(url, body) {
    return this.#json("POST", url, body);
  }

  patch(url, body) {
    return this.#json("PATCH", url, body);
  }

  delete(url) {
    return this.#json("DELETE", url);
  }

  // The answer itself, for files; raises Refusal like the others.
  async ask(method, url, body, accept = "application/json") {
    let answer = await this.#send(method, url, body, accept);
    // the session may have been renewed in another tab
    if (answer.status === 403 && method !== "GET" && (await this.#renewed())) answer = await this.#send(method, url, body, accept);
    if (answer.ok) return answer;
    if (answer.status === 401) this.onSignedOut();
    throw new Refusal(answer.status, await answer.json().catch(() => ({})));
  }

  async #json(method, url, body) {
    const answer = await this.ask(method, url, body);
    if (answer.status === 204) return null;
    try {
      return await answer.json();
    } catch {
      throw new Refusal(0); // cut off in the middle
    }
  }

  async #send(method, url, body, accept) {
    const headers = { Accept: accept, "Accept-Language": this.lang };
    if (method !== "GET") headers["X-CSRF-Token"] = this.csrf ?? "";
    if (body !== undefined) headers["Content-Type"] = "application/json";
    try {
      return await fetch(url, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        credentials: "same-origin",
        cache: "no-store",
        redirect: "error",
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
    } catch {
      throw new Refusal(0);
    }
  }

  async #renewed() {
    try {
      const answer = await this.#send("GET", this.sessionUrl, undefined, "application/json");
      const told = answer.ok ? await answer.json() : {};
      if (!told.csrf || told.csrf === this.csrf) return false;
      this.csrf = told.csrf;
      return true;
    } catch {
      return false;
    }
  }
}

// A problem's faults, each beside the field it speaks of; what has no place goes to `rest`.
export class Faults {
  // places: field of the API → id of the paragraph for it; `rest` is an id too.
  constructor({ say, places, rest }) {
    Object.assign(this, { say, places, rest });
  }

  clear() {
    for (const id of [...Object.values(this.places), this.rest]) this.put(id, "");
  }

  put(id, words) {
    const node = document.getElementById(id);
    if (!node) return;
    node.textContent = words;
    for (const field of document.querySelectorAll(`[aria-describedby="${id}"]`)) {
      if (words) field.setAttribute("aria-invalid", "true");
      else field.removeAttribute("aria-invalid");
    }
  }

  // What the page itself found; the field is brought to the fore.
  at(field, words) {
    const id = this.places[field] ?? this.rest;
    this.put(id, words);
    document.querySelector(`[aria-describedby="${id}"]`)?.focus();
  }

  show(error) {
    if (!(error instanceof Refusal)) throw error;
    const told = new Map();
    const add = (id, words) => told.set(id, [...(told.get(id) ?? []), words]);
    for (const { row, field, reason } of error.faults) {
      const id = this.places[field] ?? null;
      const which = row ? this.say("fault_row", { n: row }) : "";
      add(id ?? this.rest, `${which}${id ? "" : field ? `${field}: ` : ""}${reason}`);
    }
    if (!told.size) add(this.rest, words(error, this.say));
    for (const [id, lines] of told) this.put(id, lines.join("\n"));
  }
}

export function words(error, say) {
  if (error.status === 0) return say("no_line");
  if (error.status === 401) return say("session_over");
  return error.detail || say("problem_status", { title: error.title, status: error.status });
}
