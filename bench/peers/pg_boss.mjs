// Jobs a second of pg-boss, 16 loops that fetch and complete one job at a time.
//   PGHOST=... PGUSER=... PGDATABASE=... node pg_boss.mjs COUNT
import PgBoss from 'pg-boss';

const count = Number(process.argv[2]);
const boss = new PgBoss({
  host: process.env.PGHOST, user: process.env.PGUSER, database: process.env.PGDATABASE, max: 16,
  supervise: false, schedule: false,
});
boss.on('error', console.error);
await boss.start();
await boss.createQueue('noop');
const jobs = Array.from({ length: count }, (_, n) => ({ name: 'noop', data: { n } }));
for (let i = 0; i < count; i += 1000) await boss.insert(jobs.slice(i, i + 1000));

let done = 0;
async function loop() {
  for (;;) {
    const [job] = await boss.fetch('noop');
    if (!job) return;
    await boss.complete('noop', job.id);
    done++;
  }
}
const began = process.hrtime.bigint();
await Promise.all(Array.from({ length: 16 }, loop));
const seconds = Number(process.hrtime.bigint() - began) / 1e9;
if (done !== count) throw new Error(`${done} of ${count} done`);
console.log((count / seconds).toFixed(1));
await boss.stop({ graceful: false });
process.exit(0);
