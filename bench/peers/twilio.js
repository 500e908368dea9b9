// twilio-node with its base address here: its own form and headers, C at a time.
//   twilio.js ORIGIN N C
const twilio = require("node:module").createRequire(process.env.BENCH_NPM + "/")("twilio");

const [origin, n, concurrency] = process.argv.slice(2);
const client = twilio("AC" + "0".repeat(32), "0".repeat(32));
client.api.baseUrl = origin;
let sent = 0;

async function worker() {
  while (sent < n) {
    await client.messages.create({ from: "+19876543210",
      to: "+91" + String(++sent).padStart(10, "0"), body: "Hello" });
  }
}

// Node keeps idle connections open for a while, and itself with them.
Promise.all(Array.from({ length: Number(concurrency) }, worker)).then(
  () => process.exit(0),
  (error) => { console.error(error); process.exit(1); });
