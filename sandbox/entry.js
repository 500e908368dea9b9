// One request in the list: a line that opens to the request, its token and the reply.

function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined) continue;
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== undefined && child !== null));
  return node;
}

// How no answer reads.
function answer(entry) {
  if (entry.reply.close) return "closed";
  if (entry.reply.silent) return "silent";
  return String(entry.reply.status);
}

// What makes this request worth a look: what was played, or why it was refused.
function note(entry) {
  if (!entry.token) return `${message(entry.reply.body)}: ${entry.request.path}`;
  const failed = entry.token.checks.find((check) => !check.ok);
  if (entry.played) return `played: ${entry.played}`;
  if (failed) return failed.text;
  if (entry.recipient) return `by its number: ${entry.recipient}`;
  if (entry.outcome === "rejected") return message(entry.reply.body) ?? "";
  return "";
}

// The text in the platform's envelope of errors.
function message(body) {
  try {
    return JSON.parse(body).errors[0].msg;
  } catch {
    return undefined;
  }
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function block(text, label) {
  return make("pre", { tabIndex: 0, role: "group", "aria-label": label }, make("code", {}, text));
}

function headers(list) {
  return (list ?? []).map(([name, value]) => `${name}: ${value}`).join("\n");
}

function part(title, ...children) {
  return make("section", {}, make("h3", {}, title), ...children);
}

function requestPart({ request }) {
  const lines = `${request.method} ${request.path}\n${headers(request.headers)}`;
  const how = `HTTP/${request.http.toFixed(1)} ${request.tls ? `over ${request.tls}` : "without TLS"}, `
    + `connection ${request.connection}, from ${request.client}`;
  return part("Request", make("p", {}, how), block(lines, "Request line and headers"),
    request.body ? block(pretty(request.body), "Request body") : make("p", {}, "No body."),
    request.cut ? make("p", {}, "The body is longer than what is shown.") : null);
}

function tokenPart({ token }) {
  if (!token) return part("Token", make("p", {}, "Not looked at: this is not the call."));
  const checks = make("ul", { className: "checks" }, ...token.checks.map((check) =>
    make("li", { "data-ok": String(check.ok) },
      make("span", {}, make("span", { className: "hidden-text" }, check.ok ? "passed: " : "failed: "),
        check.text))));
  return part("Token", checks,
    token.header ? block(JSON.stringify(token.header, null, 2), "Token header") : null,
    token.claims ? block(JSON.stringify(token.claims, null, 2), "Token claims") : null,
    typeof token.claims?.exp === "number"
      ? make("p", {}, `It expires at ${new Date(token.claims.exp * 1000).toLocaleTimeString([], { hour12: false })}.`) : null);
}

const NO_ANSWER = {
  closed: "The connection was closed without an answer.",
  silent: "No answer was given; the connection stays open.",
};

function replyPart(entry) {
  const processed = entry.processed
    ? "The message was processed." : "The message was not processed.";
  const text = NO_ANSWER[answer(entry)];
  if (text) return part("Reply", make("p", {}, processed), make("p", {}, text));
  return part("Reply", make("p", {}, processed),
    block(`HTTP ${entry.reply.status}\n${headers(entry.reply.headers)}`.trim(), "Status and headers"),
    entry.reply.body ? block(pretty(entry.reply.body), "Reply body") : make("p", {}, "No body."));
}

function took(seconds) {
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
}

const CAPITAL = { accepted: "Accepted", rejected: "Rejected", unknown: "Unknown" };

/** The list item of one request; its parts are made when it is opened for the first time. */
export function entryItem(entry) {
  const at = new Date(entry.at * 1000);
  const details = make("details", { className: "entry" },
    make("summary", {},
      make("time", { dateTime: at.toISOString(), title: at.toLocaleString() },
        at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false })),
      make("span", { className: "badge", "data-outcome": entry.outcome }, CAPITAL[entry.outcome]),
      make("span", { className: "status" }, answer(entry)),
      make("span", { className: "number" }, entry.to ?? entry.request.method),
      make("span", { className: "note" }, note(entry)),
      make("span", { className: "took" }, took(entry.seconds))));
  details.addEventListener("toggle", () => {
    if (details.children.length > 1) return;
    details.append(make("div", { className: "parts" },
      requestPart(entry), tokenPart(entry), replyPart(entry)));
  }, { once: true });
  return make("li", {}, details);
}

/** The request in one sentence, for whoever listens instead of looking. */
export function spoken(entry) {
  return `${CAPITAL[entry.outcome]}, ${answer(entry)}, ${entry.to ?? entry.request.method}`;
}

export { make };
