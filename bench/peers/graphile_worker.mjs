// Jobs a second of graphile-worker with its defaults, 16 at once, jobs that do nothing.
//   PGHOST=... PGUSER=... PGDATABASE=... node graphile_worker.mjs COUNT
import { run, runMigrations } from 'graphile-worker';
import pg from 'pg';

const count = Number(process.argv[2]);
const connectionString = `socket:${process.env.PGHOST}?db=${process.env.PGDATABASE}`;
const logger = { scope: () => logger, error: console.error, warn() {}, info() {}, debug() {} };

await runMigrations({ connectionString, logger });
const client = new pg.Client();
await client.connect();
await client.query(
  "select graphile_worker.add_job('noop', json_build_object('n', n)) from generate_series(1, $1::int) n",
  [count]);
await client.end();

let done = 0;
let finished;
const all = new Promise((resolve) => { finished = resolve; });
const began = process.hrtime.bigint();
const runner = await run({
  connectionString, concurrency: 16, logger, noHandleSignals: true,
  taskList: { noop: async () => { if (++done === count) finished(); } },
});
await all;
const seconds = Number(process.hrtime.bigint() - began) / 1e9;
await runner.stop();
console.log((count / seconds).toFixed(1));
process.exit(0);
