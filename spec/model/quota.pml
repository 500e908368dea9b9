/* The quota of a store (lua/koresms/store/limits.lua, worker.lua): permits as rows, time as ticks. A permit that is used at u is
** free again at u + W + G; G is its margin. The platform must never count more than L requests in W ticks.
**
** As built: CONNECT (a connection may take its time) with CHECK_AT_SEND (start_before is looked at by what writes). Switches
** that take something out, or let something happen: NO_GUARD (rows that were marked too slowly are sent all the same), no
** CHECK_AT_SEND, STOP (a process stopped between that look and the first byte), NET=n (the network keeps requests for n ticks
** more than the margin allows for where n >= G), READD (a limit is lowered and raised, and what it adds is free at once).
** See check.sh for what each must come to.                                                                                  */
#define L 2
#define W 3
#ifndef G
#define G 1                                       /* margin of the permit */
#endif
#define GUARD 1                                   /* no older mark may be sent */
#ifndef NW
#define NW 3
#endif
#define IDLE 0
#define MARKED 1                                  /* permit used, commit under way */
#define READY 2                                   /* reply read, connection being made */
#define CHECKED 3                                 /* nothing but send() to come */
#define WIRE 4                                    /* left, not yet counted by the platform */
#define ANSWER 5
byte cool[L], seen[W], ph[NW], age[NW], slot[NW], stops = 1;
hidden byte i, n;
#define CAP (2 * W + 2)
#ifdef NO_GUARD
#define OLD1(w) false
#else
#define OLD1(w) (age[w] > GUARD)
#endif
#ifdef CHECK_AT_SEND
#define OLD2(w) (age[w] > GUARD)
#else
#define OLD2(w) false
#endif
#ifdef CONNECT
#define SLOW(s) (s == MARKED || s == READY || s == IDLE || s == ANSWER)
#else
#define SLOW(s) (s == MARKED || s == IDLE || s == ANSWER)
#endif
#ifdef NET                                        /* the network may keep a request for a tick or more */
#define MAYWAIT(w) (SLOW(ph[w]) || (ph[w] == WIRE && age[w] < GUARD + NET) || (STOPPED && ph[w] == CHECKED))
#else
#define MAYWAIT(w) (SLOW(ph[w]) || (STOPPED && ph[w] == CHECKED))
#endif
#ifdef STOP                                       /* SIGSTOP, swap, a paused machine: between check and send() */
#define STOPPED true
#else
#define STOPPED false
#endif
inline count() { seen[0]++; n = 0; for (i : 0 .. W - 1) { n = n + seen[i] } assert(n <= L) }
proctype worker(byte w) {
end: do
  :: atomic { ph[w] == IDLE && cool[0] == 0 -> cool[0] = W + G; slot[w] = 0; age[w] = 0; ph[w] = MARKED }
  :: atomic { ph[w] == IDLE && cool[1] == 0 -> cool[1] = W + G; slot[w] = 1; age[w] = 0; ph[w] = MARKED }
  :: atomic { ph[w] == MARKED -> if :: OLD1(w) -> ph[w] = IDLE; age[w] = 0 :: else -> ph[w] = READY fi }
  :: atomic { ph[w] == READY -> if :: OLD2(w) -> ph[w] = IDLE; age[w] = 0 :: else -> ph[w] = CHECKED fi }
  :: atomic { ph[w] == CHECKED -> ph[w] = WIRE }
  :: atomic { ph[w] == WIRE -> count(); ph[w] = ANSWER }
  :: atomic { ph[w] == ANSWER -> ph[w] = IDLE; age[w] = 0 }
  :: atomic { ph[w] != IDLE && ph[w] != WIRE -> ph[w] = IDLE; age[w] = 0 }           /* crash */
  od }
proctype ticks() {
end: do
  :: atomic { MAYWAIT(0) && MAYWAIT(1) && MAYWAIT(2 % NW) ->
      for (i : 0 .. L - 1) { if :: cool[i] -> cool[i]-- :: else fi }
      for (i : 0 .. NW - 1) { if :: ph[i] != IDLE && age[i] < CAP -> age[i]++ :: else fi }
      for (i : 1 .. W - 1) { seen[W - i] = seen[W - i - 1] }
      seen[0] = 0; i = 0 }
#ifdef READD                                      /* quota lowered and raised again: a used row replaced by a fresh one */
  :: atomic { stops -> stops--; cool[0] = 0 }
#endif
  od }
init { atomic { for (n : 0 .. NW - 1) { run worker(n) } run ticks(); n = 0 } }
