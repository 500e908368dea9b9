// Node's undici: a pool of C connections, a token signed for each message.
//   undici.mjs ORIGIN PATH N C
import { createHmac } from "node:crypto";
import { createRequire } from "node:module";

const { Pool } = createRequire(process.env.BENCH_NPM + "/")("undici");
const [origin, path, n, concurrency] = process.argv.slice(2);
const secret = "0123456789abcdef".repeat(3);
const base64url = (text) => Buffer.from(text).toString("base64url");
const head = base64url('{"alg":"HS256","typ":"JWT"}') + ".";

function token() {
  const iat = Math.floor(Date.now() / 1000);
  const signed = head + base64url(JSON.stringify({
    appId: "cs-00000000-0000-5000-8000-000000000002", sub: "koresms", iat, exp: iat + 300 }));
  return signed + "." + createHmac("sha256", secret).update(signed).digest("base64url");
}

const pool = new Pool(origin, { connections: Number(concurrency) });
let sent = 0;

async function worker() {
  while (sent < n) {
    const number = "+91" + String(++sent).padStart(10, "0");
    const { statusCode, body } = await pool.request({ path, method: "POST",
      headers: { auth: token(), "content-type": "application/json", accept: "application/json" },
      body: JSON.stringify({ fromNo: "+19876543210", toNo: number }) });
    const reply = await body.json();
    if (statusCode !== 200 || reply.errors) throw new Error(`status ${statusCode}`);
  }
}

await Promise.all(Array.from({ length: Number(concurrency) }, worker));
await pool.close();
