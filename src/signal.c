/*
** signal.c - counts SIGINT, SIGTERM and SIGHUP instead of letting them end the
** program, which looks at the count when it is ready to. A wait in
** poll ends early all the same.
*/
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "koresms.h"

#define CATCHER "koresms.catcher"

/* After so many signals the next one ends the program as it always did. */
#define PATIENCE 2

static const int asking[] = {SIGINT, SIGTERM, SIGHUP};

#define ASKING (sizeof asking / sizeof asking[0])

/* What was in force before; a catcher that is closed holds nothing. */
typedef struct catcher {
    int open;
    int caught[ASKING];
    struct sigaction before[ASKING];
    struct sigaction pipe;
} catcher;

/* Signals belong to the process, and so do these. */
static volatile sig_atomic_t asked;
static int catching;

/* The handler, and so async-signal-safe. */
static void count(int number)
{
    int saved = errno;
    size_t i;
    (void)number;
    if (++asked >= PATIENCE)
        for (i = 0; i < ASKING; i++) {
            struct sigaction now;
            if (sigaction(asking[i], NULL, &now) == 0 && now.sa_handler == count) {
                now.sa_handler = SIG_DFL;
                (void)sigaction(asking[i], &now, NULL);
            }
        }
    errno = saved;
}

/***
Puts back what was in force; also the finalizer. It may be called twice.
@function catcher:close
*/
static int catcher_close(lua_State *L)
{
    catcher *c = (catcher *)luaL_checkudata(L, 1, CATCHER);
    size_t i;
    if (!c->open)
        return 0;
    c->open = 0;
    for (i = 0; i < ASKING; i++)
        if (c->caught[i])
            (void)sigaction(asking[i], &c->before[i], NULL);
    (void)sigaction(SIGPIPE, &c->pipe, NULL);
    catching = 0;
    return 0;
}

/***
Counts SIGINT, SIGTERM and SIGHUP from now on, where they are not ignored; two of them are
only counted, the next one ends the program. SIGPIPE is ignored, so that writing to a pipe
that nobody reads fails and does no more. System calls are taken up again, but for waits.
@function catch_interrupts
@treturn catcher its method `close`, and its collection, put back what was in force
*/
static int l_catch_interrupts(lua_State *L)
{
    struct sigaction ours;
    catcher *c;
    size_t i;
    c = (catcher *)ksms_newuserdata(L, sizeof *c);
    memset(c, 0, sizeof *c);
    ksms_setclass(L, CATCHER);
    /* Asked last, since making the object may run a finalizer that catches them. */
    if (catching)
        return luaL_error(L, "interrupts are caught already");
    memset(&ours, 0, sizeof ours);
    (void)sigemptyset(&ours.sa_mask);
    ours.sa_handler = SIG_IGN;
    if (sigaction(SIGPIPE, &ours, &c->pipe) != 0)
        return luaL_error(L, "signals cannot be caught");
    c->open = catching = 1;
    asked = 0;
    ours.sa_handler = count;
    ours.sa_flags = SA_RESTART;
    /* One at a time: two that nest could be counted as one. */
    for (i = 0; i < ASKING; i++)
        (void)sigaddset(&ours.sa_mask, asking[i]);
    for (i = 0; i < ASKING; i++) {
        if (sigaction(asking[i], NULL, &c->before[i]) != 0 || c->before[i].sa_handler == SIG_IGN)
            continue;
        c->caught[i] = sigaction(asking[i], &ours, NULL) == 0;
    }
    return 1;
}

/***
How many signals were counted since they are caught: 0, 1, or 2.
@function interrupted
@treturn number
*/
static int l_interrupted(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)asked);
    return 1;
}

/* Leaves the module table on top, with these two functions in it. */
void ksms_open_signal(lua_State *L)
{
    static const luaL_Reg methods[] = {{"close", catcher_close}, {NULL, NULL}};
    ksms_newclass(L, CATCHER, methods, catcher_close);
    lua_pushcfunction(L, l_catch_interrupts);
    lua_setfield(L, -2, "catch_interrupts");
    lua_pushcfunction(L, l_interrupted);
    lua_setfield(L, -2, "interrupted");
}
