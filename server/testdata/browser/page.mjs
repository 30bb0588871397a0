// Usage: node page.mjs URL [FOLDER]
//
// Drives Chromium through the page of serve --dev, with the keyboard alone. Pictures go to FOLDER.
// A line "ask: REQUEST" on standard output asks the Go test for something. It has been done when a
// line comes back.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [url, folder] = process.argv.slice(2);
const origin = new URL(url).origin;
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const axe = readFileSync(new URL("node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });

async function ask(request) {
  console.log(`ask: ${request}`);
  await answers.next();
}

// open opens the page in a new browser profile. Any violation of the CSP, exception or request to
// another host fails the test.
async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, permissions: ["clipboard-read", "clipboard-write"], ...options });
  await context.addInitScript(() => { window.print = () => { window.printed = true; }; });
  const page = await context.newPage();
  watch(page);
  await page.goto(url);
  await page.getByText("Sign-in asks for the password only.").waitFor();
  return page;
}

function watch(page) {
  page.setDefaultTimeout(15_000);
  page.on("pageerror", (error) => { throw error; });
  page.on("console", (message) => assert(message.text().startsWith("Failed to load resource: the server responded with a status of"), message.text()));
  page.on("request", (request) => assert(request.url().startsWith(origin) || request.url().startsWith(`blob:${origin}`), request.url()));
}

// focus moves the focus to an element as a person without a mouse does.
async function focus(page, element) {
  for (let i = 0; i < 80; i++) {
    if (await element.evaluate((e) => e === document.activeElement)) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`Tab does not reach ${element}`);
}

async function press(page, name, section = "main") {
  await focus(page, page.locator(section).getByRole("button", { name, exact: true }));
  await page.keyboard.press("Enter");
}

const field = (page, section) => page.locator(`${section} input`);
const message = (page, section) => page.locator(`${section} .message`);

async function type(page, section, text) {
  await focus(page, field(page, section));
  await page.keyboard.press("Control+A");
  await page.keyboard.type(text);
  await page.keyboard.press("Enter");
}

async function says(page, section, text) {
  await message(page, section).filter({ hasText: text }).waitFor();
}

// scan reads the QR code from a picture of the screen and returns the secret.
async function scan(page) {
  await page.locator("#qr").screenshot({ path: "qr.png" });
  const read = execFileSync("zbarimg", ["--quiet", "--raw", "qr.png"], { encoding: "utf8", stdio: "pipe" }).trim();
  return new URL(read).searchParams.get("secret");
}

// codeOf has oathtool play the app, so many seconds from now.
function codeOf(secret, seconds = 0) {
  const now = new Date(Date.now() + seconds * 1000).toISOString().replace(/T(.*)\..*/, " $1 UTC");
  return execFileSync("oathtool", ["--totp", "--base32", "--now", now, secret], { encoding: "utf8" }).trim();
}

async function audit(page, where) {
  const { violations } = await page.evaluate(`${axe}; axe.run()`);
  assert.deepEqual(violations.map((v) => `${where}: ${v.id}: ${v.nodes.map((node) => node.target)}`), []);
}

async function picture(page, name) {
  if (folder) await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
}

const recoveryCodes = (page) => page.locator("#code-list li").allTextContents();

async function wholeFlow() {
  const page = await open();
  await audit(page, "at first");
  await press(page, "Get a key");
  await says(page, "#generate", "A new key.");
  const secret = await scan(page);
  assert.equal((await page.locator("#secret").textContent()), secret);
  assert.deepEqual(await page.locator("#secret span").allTextContents(), secret.match(/.{4}/g));
  assert.match(await page.locator("#left").textContent(), /^9:[0-5]\d$/);
  await press(page, "Get the key again");
  await says(page, "#generate", "The same key as before.");
  await page.reload();
  await says(page, "#generate", "The same key as before.");
  assert.equal(await scan(page), secret);
  await audit(page, "with a key");
  await picture(page, "light-key");

  await press(page, "a wrong code");
  await says(page, "#confirm", "The code is wrong");
  assert.equal(await field(page, "#confirm").getAttribute("aria-invalid"), "true");
  assert(await field(page, "#confirm").evaluate((e) => e === document.activeElement), "the field has the focus after a wrong code");
  await audit(page, "after a wrong code");
  await press(page, "a phone that is 5 minutes slow");
  await says(page, "#confirm", "about 5 minutes slow");
  await type(page, "#confirm", "12345");
  await says(page, "#confirm", "not a valid code");

  const confirmed = Date.now();
  const code = codeOf(secret);
  await page.evaluate((text) => navigator.clipboard.writeText(text), `${code.slice(0, 3)} ${code.slice(3)}`);
  await focus(page, field(page, "#confirm"));
  await page.keyboard.press("Control+A");
  await page.keyboard.press("Control+V");
  await page.keyboard.press("Enter");
  await says(page, "#confirm", "The app is set up.");
  assert(await page.locator("#codes-title").evaluate((e) => e === document.activeElement), "the recovery codes have the focus");
  const codes = await recoveryCodes(page);
  assert.equal(codes.length, 10);
  await press(page, "Copy");
  await page.getByRole("button", { name: "Copied" }).waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), codes.join("\n"));
  const [download] = await Promise.all([page.waitForEvent("download"), press(page, "Download")]);
  assert.equal(readFileSync(await download.path(), "utf8"), `Recovery codes of dev\n\n${codes.join("\n")}\n`);
  await press(page, "Print");
  assert(await page.evaluate(() => window.printed));
  await page.emulateMedia({ media: "print" });
  assert.equal(await page.locator("#confirm").isVisible(), false);
  assert.equal(await page.locator("#code-list").isVisible(), true);
  await page.emulateMedia({ media: null });

  await type(page, "#signin", code);
  await says(page, "#signin", "used already");
  await type(page, "#signin", codeOf(secret, 30 - (Date.now() - confirmed) / 1000));
  await says(page, "#signin", "Signed in with the code of the app. Recovery codes left: 10.");
  await press(page, "the same code again");
  await says(page, "#signin", "used already");
  await press(page, "six wrong codes");
  await says(page, "#signin", "Statuses: 400, 400, 400, 400, 400, 429.");
  await says(page, "#signin", "The next code may come in 60 seconds.");
  await press(page, "a recovery code");
  await says(page, "#signin", "Signed in with a recovery code. Recovery codes left: 9.");
  await press(page, "Show unused codes");
  await says(page, "#codes", "not used yet");
  assert.deepEqual(await recoveryCodes(page), codes.slice(1));
  await press(page, "Replace all codes");
  await says(page, "#codes", "Ten new codes.");
  assert.equal((await recoveryCodes(page)).filter((one) => codes.includes(one)).length, 0);
  await press(page, "The sign-in's view");
  await says(page, "#status", "Sign-in must ask for a code. Recovery codes left: 10.");
  await press(page, "Switch off");
  await page.getByText("Sign-in asks for the password only.").waitFor();
  await press(page, "Switch on");
  await page.getByText("Sign-in asks for a code after the password.").waitFor();
  await audit(page, "with a factor");
  await picture(page, "light-codes");
  await removeFactor(page);
}

async function removeFactor(page) {
  await press(page, "Remove the app");
  await says(page, "#remove", "The TOTP factor is removed.");
  await page.context().close();
}

// The curl line of a call, copied and run as it stands, gets the response that the page shows.
async function curlLine() {
  const page = await open();
  await press(page, "Get a key");
  await says(page, "#generate", "A new key.");
  await press(page, "Copy the curl line", "#generate");
  await page.getByRole("button", { name: "Copied" }).waitFor();
  const line = await page.evaluate(() => navigator.clipboard.readText());
  const response = execFileSync("sh", ["-c", `${line} --silent --show-error`], { encoding: "utf8" });
  const shown = (await page.locator("#generate pre").nth(1).textContent()).trim();
  const constant = (text) => text.replaceAll("\r", "").trim().replace(/(Date|Expires-In|Request-Id): .*/g, "$1").split("\n").sort();
  assert.deepEqual(constant(response), constant(shown));
  await page.context().close();
}

async function keyExpiresUnderThePage() {
  const page = await open();
  await page.clock.install();
  await press(page, "Get a key");
  await says(page, "#generate", "A new key.");
  const secret = await scan(page);
  await ask("expire the key");
  await page.clock.fastForward("10:00");
  await says(page, "#generate", "The key has expired.");
  assert.equal(await page.locator("#qr").isVisible(), false);
  await audit(page, "with an expired key");
  await type(page, "#confirm", codeOf(secret));
  await says(page, "#confirm", "expired or was replaced");
  await press(page, "Get a new key");
  await says(page, "#generate", "A new key.");
  assert.notEqual(await scan(page), secret);
  await page.context().close();
}

async function twoTabs() {
  const first = await open();
  const second = await first.context().newPage();
  watch(second);
  await second.goto(url);
  for (const page of [first, second]) {
    await press(page, "Get a key");
    await page.locator("#qr").waitFor();
  }
  const secret = await scan(first);
  assert.equal(await scan(second), secret);
  const code = codeOf(secret);
  for (const page of [first, second]) { // The second confirmation is a retry of the first.
    await type(page, "#confirm", code);
    await says(page, "#confirm", "The app is set up.");
  }
  assert.deepEqual(await recoveryCodes(second), await recoveryCodes(first));
  await second.close();
  await removeFactor(first);
}

// Redis stops while a confirmation is on its way. The page sends it again until Redis is back.
async function redisStopsInTheMiddle() {
  const page = await open();
  await press(page, "Get a key");
  await page.locator("#qr").waitFor();
  const secret = await scan(page);
  await ask("stop Redis");
  await type(page, "#confirm", codeOf(secret));
  await says(page, "#confirm", "temporarily unavailable");
  await says(page, "#confirm", "(attempt 3)");
  await picture(page, "light-unavailable");
  await ask("continue Redis");
  await says(page, "#confirm", "The app is set up.");
  assert.equal((await recoveryCodes(page)).length, 10);
  await removeFactor(page);
}

async function slowNetwork() {
  const page = await open();
  let calls = 0;
  await page.route("**/accounts/**", async (route) => {
    calls++;
    await new Promise((resume) => setTimeout(resume, 1000));
    await route.continue();
  });
  await press(page, "Get a key");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Enter");
  await page.locator("#qr").waitFor();
  assert.equal(calls, 1);
  await page.context().close();
}

// The address of an earlier run has another access key.
async function staleAddress() {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${origin}/#OLD`);
  await page.getByRole("alert").filter({ hasText: "no valid access key" }).waitFor();
  await audit(page, "without an access key");
  await page.goto(url);
  await page.getByRole("button", { name: "Get a key" }).waitFor();
  await context.close();
}

// looks opens the page as others see it: dark, on a small phone, in a wide window.
async function looks() {
  for (const [name, options] of Object.entries({
    dark: { colorScheme: "dark" },
    narrow: { viewport: { width: 360, height: 740 } },
    "narrow-dark": { viewport: { width: 360, height: 740 }, colorScheme: "dark" },
    wide: { viewport: { width: 2560, height: 1200 } },
  })) {
    const page = await open(options);
    await press(page, "Get a key");
    await page.locator("#qr").waitFor();
    await press(page, "a wrong code");
    await says(page, "#confirm", "The code is wrong");
    const secret = await scan(page);
    await audit(page, name);
    assert(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${name}: the page is wider than the window`);
    await picture(page, `${name}-key`);
    await type(page, "#confirm", codeOf(secret));
    await says(page, "#confirm", "The app is set up.");
    await picture(page, `${name}-codes`);
    await audit(page, `${name}, with codes`);
    await removeFactor(page);
  }
}

// The shortest way from the page's address to the recovery codes.
async function shortestWay() {
  const began = performance.now();
  const page = await open();
  await page.getByRole("button", { name: "Get a key" }).click();
  await page.locator("#qr").waitFor();
  await page.locator("[data-phone=confirm-code]").click();
  await message(page, "#confirm").filter({ hasText: "has computed the code" }).waitFor();
  await page.getByRole("button", { name: "Confirm" }).click();
  await page.locator("#code-list li").nth(9).waitFor();
  console.log(`from the address to the recovery codes: ${Math.round(performance.now() - began)} ms`);
  await removeFactor(page);
}

for (const step of [staleAddress, wholeFlow, curlLine, keyExpiresUnderThePage, twoTabs, redisStopsInTheMiddle, slowNetwork, looks, shortestWay]) {
  const began = performance.now();
  await step();
  console.log(`ok ${step.name}, ${Math.round(performance.now() - began)} ms`);
}
await browser.close();
process.exit(0);
