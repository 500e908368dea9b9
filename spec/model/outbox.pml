/* The protocol of a store's worker (lua/koresms/store/worker.lua): two workers, M messages. One step is one transaction, or one
** event of the world outside. Each misfortune (a crash, a commit that is lost or late, a request that did not leave, a throttled
** reply, a lease that ends though its worker lives, a person's resend, pause, cancel) costs one of B, so every run ends; and
** where nothing more can happen every row must be in an end state: that is the liveness.
**
** OFF is a set of bits, each of which takes one guard out; 0 is the protocol. See check.sh for what each must come to.
** Whoever changes the protocol changes this file first.                                                                          */
#define MARK          1       /* the mark is not durable: it is gone after a crash */
#define ATTEMPT       2       /* an ending is stored without a look at the row's attempt */
#define WORKER        4       /* ... at the row's worker */
#define SWEEP_BACK    8       /* what a dead worker left becomes pending */
#define REPAIR        16      /* rows that bear a worker's number, and that it does not have in hand, become pending; the statement may be
                              ** given up, too, and come late, with an old list */
#define SAME_NUMBER   32      /* after a lost answer the worker goes on under its number */
#define REUSE         64      /* after a crash the worker comes back under its number */
#define RECHECK       128     /* a row is taken without a look at its state */
#define NO_SWEEP      256     /* nobody sweeps */
#define CANCEL_ONCE   512     /* what comes back to a cancelled campaign stays pending */
#define DROP          1024    /* endings leave memory before their commit is confirmed */
#define REOPEN        2048    /* an ending is stored in a row that is pending again */
#define DEAF          4096    /* late answers are dropped */
#define EARLY         8192    /* a person may resend before the worker is dead */
#define TAKE_FIRST    16384   /* a turn takes before it stores: PostgreSQL's order inside one statement; no mutant */
#ifndef OFF
#define OFF 0
#endif
#define IS_OFF(bit) ((OFF / bit) % 2 == 1)
#ifndef B
#define B 3                                       /* at most 4 */
#endif
#ifndef M
#define M 2                                       /* at most 3 */
#endif
#define A (B + 1)                                 /* attempts of a message */
#define X (M * A)                                 /* x = m * A + attempt - 1 */
#define N (2 + B)                                 /* worker numbers */
#define DEAD 2
mtype:row = { PENDING, SENDING, ACCEPTED, REJECTED, UNKNOWN, SKIPPED, EXPIRED };
mtype:hand = { NONE, BEGUN, FLIGHT, YES, NO, BACK, DUNNO };   /* marked; on its way; then endings that are not stored yet */
mtype:wire = { NOTHING, WIRE, DONE, GONE };       /* at the platform: DONE = processed, GONE = refused or never arrived */
mtype:camp = { RUN, PAUSED, CANCELLED };
mtype:row st[M] = PENDING; byte att[M], wk[M], resent[M];          /* the rows; resent: by a person */
bool lease[N]; mtype:camp camp = RUN; byte next = 2, budget = B;
byte boss[N] = DEAD, num[2];                      /* number -> process 0, 1 or DEAD; process -> its number */
mtype:hand mem[X] = NONE; byte own[X];            /* what a process has in hand, under which number */
mtype:wire net[X] = NOTHING;
byte late, late_n, late_m; bool late_held[M]; mtype:hand late_x[X] = NONE;      /* a turn (1) or a repair (2) that its client has given up */
hidden byte i, j, k, r, y; hidden mtype:hand batch[X] = NONE;
#define ENDING(v) (v == YES || v == NO || v == BACK || v == DUNNO)
#define FENCE ((IS_OFF(ATTEMPT) || att[r] == i % A + 1) && (IS_OFF(WORKER) || wk[r] == own[i]))
#define OPEN(s) (s == SENDING || (s == UNKNOWN && !IS_OFF(DEAF)) || (s == PENDING && IS_OFF(REOPEN)))
#define H(m, w, c) (mem[m * A + (c) % A] != NONE && boss[own[m * A + (c) % A]] == w)
#define IN_HAND(m, w) (H(m, w, 0) || H(m, w, 1) || H(m, w, 2) || H(m, w, 3) || H(m, w, 4))
#define FREE(m) ((st[m] == PENDING || (IS_OFF(RECHECK) && st[m] == SENDING)) && camp == RUN && att[m] < A)
#define HAS(m, n) (st[m] == SENDING && wk[m] == n)
#define LETGO(n) (boss[n] == DEAD || num[boss[n]] != n)            /* nobody renews the lease of n */
inline finish() {                                 /* stores the endings in batch */
  for (i : 0 .. X - 1) { r = i / A;
    if :: batch[i] != NONE && FENCE && OPEN(st[r]) ->
      if :: batch[i] == YES -> st[r] = ACCEPTED :: batch[i] == NO -> st[r] = REJECTED
         :: batch[i] == BACK -> st[r] = PENDING :: batch[i] == DUNNO -> st[r] = UNKNOWN fi
    :: else fi } }
inline take(n, m) { y = 0;
  if :: m < M && FREE(m) -> k = 0;
    for (j : 0 .. A - 1) { k = k + (mem[m * A + j] == BEGUN || mem[m * A + j] == FLIGHT) }
    assert(k <= resent[m]);                       /* no row in two hands */
    att[m]++; wk[m] = n; st[m] = SENDING; y = 1
  :: else fi }
inline renumber(w) {
  if :: !IS_OFF(SAME_NUMBER) -> num[w] = next; boss[next] = w; lease[next] = 1; next++ :: else fi }
inline told() { for (i : 0 .. X - 1) { if :: batch[i] != NONE -> mem[i] = NONE :: else fi } }
inline both(n, m) {
  if :: IS_OFF(TAKE_FIRST) -> take(n, m); k = y; finish(); y = k :: else -> finish(); take(n, m) fi }
inline turn(w, m) {                               /* m == M: nothing is taken */
  for (i : 0 .. X - 1) { if :: ENDING(mem[i]) && boss[own[i]] == w -> batch[i] = mem[i] :: else -> batch[i] = NONE fi }
  if
  :: both(num[w], m); told();                     /* committed, and told so */
     if :: y -> i = m * A + att[m] - 1; mem[i] = BEGUN; own[i] = num[w] :: else fi
  :: budget > 0 -> budget--; both(num[w], m); renumber(w); if :: IS_OFF(DROP) -> told() :: else fi    /* committed, not told */
  :: budget > 0 && !late -> budget--; late = 1; late_n = num[w]; late_m = m;                          /* may yet commit, later */
     for (i : 0 .. X - 1) { late_x[i] = batch[i] } renumber(w); if :: IS_OFF(DROP) -> told() :: else fi
  fi }
proctype worker(byte w; byte m) {                 /* takes m; crashes */
end: do
  :: atomic { FREE(m) -> turn(w, m) }
  :: atomic { st[m] == PENDING && camp == RUN -> st[m] = EXPIRED; wk[m] = num[w] }
  :: atomic { IS_OFF(REPAIR) && st[m] == SENDING && boss[wk[m]] == w && !IN_HAND(m, w) -> st[m] = PENDING }
  :: atomic { IS_OFF(REPAIR) && m == 0 && budget > 0 && !late -> budget--; late = 2; late_n = num[w];
      for (i : 0 .. M - 1) { late_held[i] = IN_HAND(i, w) } renumber(w) }
  :: atomic { m == 0 && budget > 0 -> budget--;   /* kill -9, and a new start */
      for (i : 0 .. M - 1) { if :: IS_OFF(MARK) && st[i] == SENDING && boss[wk[i]] == w -> st[i] = PENDING :: else fi }
      for (i : 0 .. X - 1) { if :: mem[i] != NONE && boss[own[i]] == w -> mem[i] = NONE :: else fi }
      if :: IS_OFF(REUSE) -> skip
         :: else -> for (i : 0 .. N - 1) { if :: boss[i] == w -> boss[i] = DEAD :: else fi }
           num[w] = next; boss[next] = w; lease[next] = 1; next++ fi }
  od }
proctype request(byte x) {                        /* attempt x */
end: do
  :: atomic { mem[x] == BEGUN -> mem[x] = FLIGHT; net[x] = WIRE }
  :: atomic { mem[x] == BEGUN && budget > 0 -> budget--; mem[x] = BACK }
  :: atomic { net[x] == WIRE -> net[x] = DONE; k = 0;
      for (j : 0 .. A - 1) { k = k + (net[(x / A) * A + j] == DONE) }
      assert(k <= 1 + resent[x / A]) }            /* nobody is texted twice */
  :: atomic { net[x] == WIRE -> net[x] = GONE }
  :: atomic { mem[x] == FLIGHT && net[x] == DONE -> mem[x] = YES }
  :: atomic { mem[x] == FLIGHT && net[x] == GONE -> mem[x] = NO }
  :: atomic { mem[x] == FLIGHT && net[x] == GONE && budget > 0 -> budget--; mem[x] = BACK }        /* 429 */
  :: atomic { mem[x] == FLIGHT -> mem[x] = DUNNO }
  :: atomic { ENDING(mem[x]) -> turn(boss[own[x]], M) }
  od }
proctype keeper(byte n) {                         /* lease and sweep of number n */
end: do
  :: atomic { n < next && lease[n] && LETGO(n) -> lease[n] = 0 }
  :: atomic { n < next && lease[n] && !LETGO(n) && budget > 0 -> budget--; lease[n] = 0 }          /* stalled */
  :: atomic { n < next && !lease[n] && !LETGO(n) -> lease[n] = 1 }
  :: atomic { n < next && !lease[n] && (HAS(0, n) || HAS(1 % M, n) || HAS(M - 1, n)) && !IS_OFF(NO_SWEEP) ->
      for (i : 0 .. M - 1) {
        if :: HAS(i, n) && IS_OFF(SWEEP_BACK) -> st[i] = PENDING :: HAS(i, n) && !IS_OFF(SWEEP_BACK) -> st[i] = UNKNOWN :: else fi } }
  od }
proctype person(byte m) {
end: do
  :: atomic { st[m] == UNKNOWN && (!lease[wk[m]] || IS_OFF(EARLY)) && budget > 0 -> budget--; resent[m]++; st[m] = PENDING }
  :: atomic { m == 0 && camp == RUN && budget > 0 -> budget--; camp = PAUSED }
  :: atomic { m == 0 && camp == PAUSED -> camp = RUN }
  :: atomic { m == 0 && camp != CANCELLED && budget > 0 -> budget--; camp = CANCELLED;
      for (i : 0 .. M - 1) { if :: st[i] == PENDING -> st[i] = SKIPPED :: else fi } }
  :: atomic { camp == CANCELLED && st[m] == PENDING && !IS_OFF(CANCEL_ONCE) -> st[m] = SKIPPED }   /* what comes back later */
  od }
proctype straggler() {                            /* the turn that was given up comes after all, or never */
end: do
  :: atomic { late == 1 -> for (i : 0 .. X - 1) { batch[i] = late_x[i] } both(late_n, late_m);
      late = 0; late_n = 0; late_m = 0; for (i : 0 .. X - 1) { late_x[i] = NONE } }
  :: atomic { late == 2 -> for (i : 0 .. M - 1) { if :: !late_held[i] && HAS(i, late_n) -> st[i] = PENDING :: else fi; late_held[i] = 0 }
      late = 0; late_n = 0 }
  :: atomic { late == 1 -> late = 0; late_n = 0; late_m = 0; for (i : 0 .. X - 1) { late_x[i] = NONE } }
  od }
init { byte a;
  atomic { num[1] = 1; boss[0] = 0; boss[1] = 1; lease[0] = 1; lease[1] = 1;
    for (a : 0 .. M - 1) { run person(a); run worker(0, a); run worker(1, a) }
    for (a : 0 .. X - 1) { run request(a) }
    for (a : 0 .. N - 1) { run keeper(a) }
    run straggler(); a = 0 }
  timeout;                                        /* nothing more can happen */
  atomic { for (i : 0 .. M - 1) {
    assert(st[i] != PENDING && st[i] != SENDING);
    k = 0; for (j : 0 .. A - 1) { k = k + (net[i * A + j] == DONE) }
    assert(st[i] != ACCEPTED || k > 0);
    assert(st[i] != REJECTED || net[i * A + att[i] - 1] != DONE);
    assert((st[i] != SKIPPED && st[i] != EXPIRED) || k == 0 || resent[i] > 0) } i = 0 }
}
