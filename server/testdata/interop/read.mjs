// node read.mjs UNIXTIME reads otpauth URLs on standard input, one a line, and prints
// as JSON what each library reads from them, with the code at that time.
import { text } from "node:stream/consumers";
import { parse } from "@otplib/uri";
import { URI } from "otpauth";
import { generateSync } from "otplib";

const time = Number(process.argv[2]);
const urls = (await text(process.stdin)).trimEnd().split("\n");

function otpauth(url) {
  const key = URI.parse(url);
  return { issuer: key.issuer, account: key.label, secret: key.secret.base32, code: key.generate({ timestamp: time * 1000 }) };
}

// otplib returns the label whole. An issuer in it that is not the parameter's would
// stay in the account, where the test sees it.
function otplib(url) {
  const { label, params } = parse(url);
  const account = label.replace(`${params.issuer}:`, "");
  return { issuer: params.issuer, account, secret: params.secret, code: generateSync({ ...params, epoch: time }) };
}

console.log(JSON.stringify({ otpauth: urls.map(otpauth), otplib: urls.map(otplib) }));
