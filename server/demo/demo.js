// The page of package demo. Each step calls the API and shows the call.

const $ = (id) => document.getElementById(id);
const period = 30; // seconds of a time step

let session; // the credentials of serve --dev
let key; // the key that the last call returned: {secret, deadline}
let code; // the code that sign-in sent last
let usedStep = 0; // the last time step whose code the service has accepted

// The "phone" of this page is the secret in the tab's storage: it survives a reload.
const phone = {
  get secret() { return sessionStorage.getItem("secret"); },
  set secret(value) { sessionStorage.setItem("secret", value); },
};

// Showing.

function say(step, text, tone = "") {
  const message = $(step).querySelector(".message");
  message.className = `message ${tone}`;
  message.textContent = text;
}

function showState(enabled) {
  say("status", ""); // What it said may be untrue now.
  $("state").textContent = enabled ? "Sign-in asks for a code after the password." : "Sign-in asks for the password only.";
}

const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
const fieldName = (name) => name.replace(/(^|-)[a-z]/g, (letter) => letter.toUpperCase());

// showWire shows a call as HTTP/1.1. The browser adds some fields of its own to the request.
function showWire(step, method, path, fields, body, response, text) {
  let wire = $(step).querySelector(".wire");
  if (!wire) {
    wire = $("wire").content.firstElementChild.cloneNode(true);
    wire.open = matchMedia("(min-width: 60rem)").matches;
    wire.querySelector("button").onclick = (event) => copy(event.target, wire.querySelectorAll("pre")[2].textContent);
    $(step).append(wire);
  }
  const lines = (all) => all.map(([name, value]) => `${name}: ${value}\n`).join("");
  const [request, answer, curl] = wire.querySelectorAll("pre");
  const sent = body === undefined ? [] : [["Content-Type", "application/json"]];
  request.textContent = `${method} ${path} HTTP/1.1\nHost: ${location.host}\n${lines([...Object.entries(fields), ...sent])}${body === undefined ? "" : `\n${body}`}`;
  answer.textContent = `HTTP/1.1 ${response.status} ${response.statusText}\n${lines([...response.headers].map(([name, value]) => [fieldName(name), value]))}\n${text}`;
  const json = body === undefined ? "" : ` --json ${quote(body)}`;
  const verb = method === "GET" ? "" : ` -X ${method}`;
  curl.textContent = `curl -i${verb}${Object.entries(fields).map(([name, value]) => ` -H ${quote(`${name}: ${value}`)}`).join("")}${json} ${quote(location.origin + path)}`;
  wire.querySelector("summary").textContent = `${method} ${path} → ${response.status} ${response.statusText}`;
}

async function copy(button, text) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "The browser refuses to copy";
  }
  setTimeout(() => { button.textContent = label; }, 2000);
}

// Calling.

const wait = (seconds) => new Promise((resume) => setTimeout(resume, seconds * 1000));

function credential() {
  const kind = document.querySelector("[name=credential]:checked").value;
  return kind === "token" ? { Authorization: `Bearer ${session.token}` } : { "X-Api-Key": session.api_key };
}

const service = () => ({ "X-Service-Key": session.service_key });

// call makes a call and returns {ok, status, reason, error, retryAfter, header, data}. After a 503
// it sends the same call again, as the API asks its clients to do.
async function call(step, method, path, value, fields = credential()) {
  const body = value === undefined ? undefined : JSON.stringify(value);
  const headers = body === undefined ? fields : { ...fields, "Content-Type": "application/json" };
  for (let attempt = 1; ; attempt++) {
    let response, text;
    try {
      response = await fetch(path, { method, headers, body, cache: "no-store", redirect: "error" });
      text = await response.text();
    } catch {
      return { error: "There is no response. Is the service running?" };
    }
    showWire(step, method, path, fields, body, response, text);
    let content = {};
    try { content = JSON.parse(text); } catch { content.error = text; }
    const retryAfter = Number(response.headers.get("Retry-After"));
    if (response.status !== 503 || attempt === 30) {
      return { ok: response.ok, status: response.status, retryAfter, header: response.headers, ...content };
    }
    say(step, `${content.error}\nThe page sends the same call again (attempt ${attempt + 1}).`, "bad");
    await wait(retryAfter || 1);
  }
}

// explain returns what a person should do about a refusal.
function explain(reply) {
  const advice = {
    clock_off: "Switch on automatic date and time on the phone.",
    not_pending: "The button “Get a key” does that.",
    not_enrolled: "Get a key and confirm it first.",
    step_up: "Choose the bearer token at the top of the page.",
    locked: `The next code may come in ${reply.retryAfter} seconds.`,
  }[reply.reason];
  return [reply.error, advice].filter(Boolean).join("\n");
}

function refuse(step, reply) {
  say(step, explain(reply), "bad");
  const field = $(step).querySelector("input");
  if (field && reply.status === 400 && reply.reason !== "not_enrolled") {
    field.setAttribute("aria-invalid", "true");
    field.focus();
    field.select();
  }
}

// run runs the action of a step, one at a time: a second click waits for no second call.
async function run(step, action) {
  const section = $(step);
  if (section.ariaBusy === "true") return;
  section.ariaBusy = "true";
  section.querySelector("input")?.removeAttribute("aria-invalid");
  try {
    await action();
  } finally {
    section.ariaBusy = "false";
  }
}

// Codes.

async function totp(secret, step) {
  const bits = [...secret].map((symbol) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(symbol).toString(2).padStart(5, "0")).join("");
  const bytes = Uint8Array.from(bits.match(/.{8}/g), (byte) => parseInt(byte, 2));
  const counter = new DataView(new ArrayBuffer(8));
  counter.setBigUint64(0, BigInt(step));
  const hmac = await crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-1" }, false, ["sign"]);
  const mac = new DataView(await crypto.subtle.sign("HMAC", hmac, counter.buffer));
  return String((mac.getUint32(mac.getUint8(19) & 15) & 0x7fffffff) % 1e6).padStart(6, "0");
}

const stepNow = () => Math.floor(Date.now() / 1000 / period);

async function wrongCode() {
  const near = [];
  for (let step = stepNow() - 21; step <= stepNow() + 21; step++) near.push(await totp(phone.secret, step));
  for (let guess = 0; ; guess++) {
    const wrong = String(guess).padStart(6, "0");
    if (!near.includes(wrong)) return wrong;
  }
}

// computeCode puts the code that the app would show into a field. A code that the service has
// accepted is used up, so the next one takes its place: the service allows for one step.
async function computeCode(step, field) {
  if (!phone.secret) return say(step, "This tab has seen no key: get one first.", "bad");
  const next = Math.max(stepNow(), usedStep + 1);
  if (next > stepNow() + 1) {
    const seconds = (next - 1) * period - Math.floor(Date.now() / 1000);
    return say(step, `The codes of now are used up. The next one is good in ${seconds} seconds.`);
  }
  field.value = await totp(phone.secret, next);
  field.focus();
  say(step, "The page has computed the code, as the app would.");
}

// stepOf returns the time step of a code that was accepted just now.
async function stepOf(accepted) {
  for (let step = stepNow() + 1; step > stepNow() - 3; step--) {
    if (await totp(phone.secret, step) === accepted) return step;
  }
  return usedStep;
}

// The steps.

async function getKey() {
  const before = phone.secret;
  const reply = await call("generate", "POST", "/accounts/generate-totp-key");
  if (!reply.ok) return refuse("generate", reply);
  const url = new URL(reply.data.otpauth_url);
  const [issuer, label] = decodeURIComponent(url.pathname.replace(/^\/*(totp\/)?/, "")).split(":");
  key = { secret: reply.data.secret, deadline: Date.now() + Number(reply.header.get("Totp-Key-Expires-In")) * 1000 };
  phone.secret = key.secret;
  sessionStorage.setItem("deadline", key.deadline);
  const picture = await fetch("/demo/qr", { method: "POST", body: reply.data.otpauth_url });
  URL.revokeObjectURL($("qr").src);
  $("qr").src = URL.createObjectURL(await picture.blob());
  $("secret").replaceChildren(...key.secret.match(/.{4}/g).map((group) => Object.assign(document.createElement("span"), { textContent: group })));
  $("issuer").textContent = issuer;
  $("label").textContent = label;
  $("key").className = "";
  $("key").hidden = false;
  $("get-key").textContent = "Get the key again";
  countDown();
  say("generate", before === key.secret ? "The same key as before." : "A new key. Scan it, then type a code below.", "good");
}

function countDown() {
  if (!key) return;
  const left = Math.max(0, Math.ceil((key.deadline - Date.now()) / 1000));
  $("left").textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
  if (left === 0 && $("key").className === "") {
    $("key").className = "expired";
    $("get-key").textContent = "Get a new key";
    say("generate", "The key has expired. Get a new one, and scan it again.", "bad");
  }
}

function hideKey() {
  key = undefined;
  sessionStorage.removeItem("deadline");
  $("key").hidden = true;
  $("get-key").textContent = "Get a key";
  say("generate", "");
}

async function confirmKey(typed) {
  if (!key) return say("confirm", "Get a key first.", "bad");
  const reply = await call("confirm", "POST", "/accounts/confirm-totp-registration", { code: typed, secret: key.secret });
  if (!reply.ok) return refuse("confirm", reply);
  usedStep = await stepOf(typed);
  hideKey();
  $("confirm-code").value = "";
  say("confirm", "The app is set up.", "good");
  showState(true);
  showCodes(reply.data.recovery_codes);
  say("codes", "These ten codes came with the confirmation. Any older ones are void.", "good");
  $("codes-title").focus();
}

function showCodes(codes) {
  $("code-list").replaceChildren(...codes.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  $("code-sheet").hidden = codes.length === 0;
}

const shownCodes = () => [...$("code-list").children].map((item) => item.textContent);

async function fetchCodes(method, text) {
  const reply = await call("codes", method, "/accounts/recovery-codes");
  if (!reply.ok) return refuse("codes", reply);
  showCodes(reply.data);
  say("codes", reply.data.length ? text : "There are no recovery codes.", reply.data.length ? "good" : "");
}

function downloadCodes() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`Recovery codes of ${session.account}\n\n${shownCodes().join("\n")}\n`], { type: "text/plain" }));
  link.download = "recovery-codes.txt";
  link.click();
  URL.revokeObjectURL(link.href);
}

async function verify(typed) {
  code = typed;
  const reply = await call("signin", "POST", "/internal/verify-mfa-code", { account: session.account, code: typed }, service());
  if (!reply.ok) return refuse("signin", reply), reply;
  if (reply.data.method === "totp" && phone.secret) usedStep = await stepOf(typed);
  $("signin-code").value = "";
  const what = reply.data.method === "totp" ? "the code of the app" : "a recovery code";
  say("signin", `Signed in with ${what}. Recovery codes left: ${reply.data.recovery_codes_left}.`, "good");
  return reply;
}

async function tryLock() {
  if (!phone.secret) return say("signin", "This tab has seen no key: get one first.", "bad");
  const wrong = await wrongCode();
  const seen = [];
  for (let i = 0; i < 6; i++) {
    const reply = await verify(wrong);
    seen.push(reply.status ?? "no response");
    if (!reply.status || reply.reason === "not_enrolled") return;
    if (reply.status === 429) {
      return say("signin", `Statuses: ${seen.join(", ")}.\n${explain(reply)}\nTry a recovery code now.`, "bad");
    }
  }
}

async function showInfo() {
  const reply = await call("status", "GET", "/accounts/user-mfa-info");
  if (!reply.ok) return refuse("status", reply);
  showState(reply.data.totp_enabled);
  say("status", reply.data.totp_enabled ? "The account has an authenticator app, and it is on." : "The account has no authenticator app, or it is off.", "good");
}

async function showSignInStatus() {
  const reply = await call("status", "POST", "/internal/mfa-status", { account: session.account }, service());
  if (!reply.ok) return refuse("status", reply);
  const left = `Recovery codes left: ${reply.data.recovery_codes_left}.`;
  say("status", `${reply.data.totp_enabled ? "Sign-in must ask for a code." : "Sign-in asks for no code."} ${left}`, "good");
}

async function change(step, method, path, value, enabled) {
  const reply = await call(step, method, path, value);
  if (!reply.ok) return refuse(step, reply);
  showState(enabled);
  say(step, reply.message, "good");
  return reply;
}

async function remove() {
  if (!await change("remove", "DELETE", "/accounts/totp", undefined, false)) return;
  showCodes([]);
  for (const step of ["confirm", "codes", "signin", "status"]) say(step, "");
}

// Wiring.

const digits = (text) => text.replace(/\s/g, "");

function onClick(id, step, action) { $(id).onclick = () => run(step, action); }

function onSubmit(step, action) {
  $(step).querySelector("form").onsubmit = (event) => {
    event.preventDefault();
    const field = $(step).querySelector("input");
    run(step, async () => {
      if (field.value.trim() === "") {
        refuse(step, { status: 400, error: "Type the code that the app shows." });
      } else {
        await action(digits(field.value));
      }
    });
  };
}

function wireUp() {
  onClick("get-key", "generate", getKey);
  onSubmit("confirm", confirmKey);
  onClick("try-wrong", "confirm", async () => key ? confirmKey(await wrongCode()) : say("confirm", "Get a key first.", "bad"));
  onClick("try-clock", "confirm", async () => key ? confirmKey(await totp(key.secret, stepNow() - 10)) : say("confirm", "Get a key first.", "bad"));
  onClick("view-codes", "codes", () => fetchCodes("GET", "These codes are not used yet."));
  onClick("issue-codes", "codes", () => fetchCodes("POST", "Ten new codes. The older ones are void."));
  $("copy-codes").onclick = (event) => copy(event.target, shownCodes().join("\n"));
  $("download-codes").onclick = downloadCodes;
  $("print-codes").onclick = () => print();
  onSubmit("signin", verify);
  onClick("use-recovery", "signin", () => {
    const [first] = shownCodes();
    if (!first) return say("signin", "No recovery code is on the page: show them in step 3.", "bad");
    return verify(first).then((reply) => reply.ok && $("code-list").firstElementChild.remove());
  });
  onClick("try-replay", "signin", () => code ? verify(code) : say("signin", "Verify a code first.", "bad"));
  onClick("try-lock", "signin", tryLock);
  onClick("info", "status", showInfo);
  onClick("signin-status", "status", showSignInStatus);
  onClick("switch-off", "status", () => change("status", "PATCH", "/accounts/mfa-settings", { totp_enabled: false }, false));
  onClick("switch-on", "status", () => change("status", "PATCH", "/accounts/mfa-settings", { totp_enabled: true }, true));
  onClick("remove-factor", "remove", remove);
  for (const button of document.querySelectorAll("[data-phone]")) {
    const step = button.closest("section").id;
    button.onclick = () => run(step, () => computeCode(step, $(button.dataset.phone)));
  }
  setInterval(countDown, 1000);
}

async function start() {
  onhashchange = () => location.reload(); // the address of a later run
  const response = await fetch("/demo/session", { headers: { "Demo-Access-Key": location.hash.slice(1) } });
  if (!response.ok) {
    $("fatal").textContent = "This address has no valid access key. Open the address that serve --dev (make run) printed last.";
    $("fatal").hidden = false;
    return;
  }
  session = await response.json();
  $("account").textContent = session.account;
  $("steps").hidden = false;
  wireUp();
  await run("status", showInfo);
  if (Number(sessionStorage.getItem("deadline")) > Date.now()) await run("generate", getKey); // after a reload
}

start();
