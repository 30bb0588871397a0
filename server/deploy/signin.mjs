// The gateway's sign-in with fetch: what to ask mfa, and what to do on each status.
//
//	SERVICE_KEY=... node signin.mjs URL ACCOUNT [CODE]...
//
// prints what the person sees after the password, and after each code. URL is an instance's,
// such as https://mfa-1.internal:8443. For a CA of your own, set NODE_EXTRA_CA_CERTS.
const [url, account, ...codes] = process.argv.slice(2);

// call returns the status, the body's members and Retry-After. Without a response of JSON within
// 5 s, it throws.
async function call(operation, request) {
  const response = await fetch(`${url}/internal/${operation}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Service-Key": process.env.SERVICE_KEY },
    body: JSON.stringify(request),
    redirect: "error",
    signal: AbortSignal.timeout(5000),
  });
  const body = await response.json();
  return { ...body, status: response.status, retryAfter: response.headers.get("Retry-After") };
}

// fault tells the operators. The person learns nothing of it, and is not signed in.
function fault(text) {
  console.error(`mfa: ${text}`);
  return "Sign-in is not available now. Please try again later.";
}

// afterPassword is called once the password is right. If it is unknown whether the account has a
// factor, nobody gets in.
async function afterPassword(account) {
  const { status, data } = await call("mfa-status", { account });
  if (status === 200 && data.totp_enabled === false) return issueTokens(account);
  if (status === 200 && data.totp_enabled === true) return "Enter the code of your app, or a recovery code.";
  return fault(`status ${status}`);
}

// enterCode is called with the account whose password was right, which comes from no form. Only a
// 200 issues tokens.
async function enterCode(account, code) {
  const { status, data, error, reason, retryAfter } = await call("verify-mfa-code", { account, code });
  if (status === 200 && data.method === "recovery_code") {
    return `${issueTokens(account)} You have ${data.recovery_codes_left} recovery codes left.`;
  }
  if (status === 200) return issueTokens(account);
  if (reason === "not_enrolled") return "Please sign in again."; // The factor was removed a moment ago.
  if (status === 400 && reason) return error; // wrong_code, replayed, malformed, or a later one
  if (status === 429) return `${error} The next code may come in ${retryAfter} s.`;
  if (status === 503) return error; // The code may be used up. Then the next attempt is refused.
  return fault(`status ${status}`); // 401: the service key has expired or was revoked.
}

// issueTokens is the gateway's own.
function issueTokens(account) {
  return `Tokens of ${account}.`;
}

const failed = (err) => fault(err.cause?.code ?? err.name);
console.log(await afterPassword(account).catch(failed));
for (const code of codes) console.log(await enterCode(account, code).catch(failed));
