/*
** core.c - opens koresms.core: numbers, tokens, request bytes, the reader of
** replies, two clocks. No socket is touched here and no policy is made, so
** that the same module serves plain Lua and an nginx worker.
*/
#define _POSIX_C_SOURCE 200809L

#include <poll.h>
#include <time.h>

#include "clock.h"
#include "koresms.h"
#include "module.h"

static int push_clock(lua_State *L, clockid_t id)
{
    struct timespec t;
    if (clock_gettime(id, &t) != 0)
        return luaL_error(L, "the system has no such clock");
    lua_pushnumber(L, (lua_Number)t.tv_sec + (lua_Number)t.tv_nsec * 1e-9);
    return 1;
}

/***
Seconds on a clock that is never set back, for deadlines and pacing; where the system has such a
clock, it goes on while the machine is suspended.
@function clock
@treturn number seconds since some fixed moment
*/
static int l_clock(lua_State *L)
{
    return push_clock(L, KSMS_CLOCK);
}

/***
Seconds on the wall clock: for claims and HTTP dates.
@function time
@treturn number seconds since 1970
*/
static int l_time(lua_State *L)
{
    return push_clock(L, CLOCK_REALTIME);
}

/***
Waits without using the CPU. A signal ends it early.
@function sleep
@tparam number seconds
*/
static int l_sleep(lua_State *L)
{
    double ms = luaL_checknumber(L, 1) * 1000;
    (void)poll(NULL, 0, ms < 0 ? 0 : ms > 1e9 ? 1000000000 : (int)ms);
    return 0;
}

/***
How often this process was forked off since the module was loaded. What was made before the
last time is the parent's, too.
@function forks
@treturn number
*/
static int l_forks(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)ksms_forks);
    return 1;
}

/* Leaves the module table. */
KSMS_EXPORT int luaopen_koresms_core(lua_State *L);
KSMS_EXPORT int luaopen_koresms_core(lua_State *L)
{
    ksms_open_module(L, luaopen_koresms_core);
    lua_newtable(L);
    lua_pushliteral(L, KSMS_VERSION);
    lua_setfield(L, -2, "_VERSION");
    lua_pushcfunction(L, l_clock);
    lua_setfield(L, -2, "clock");
    lua_pushcfunction(L, l_time);
    lua_setfield(L, -2, "time");
    lua_pushcfunction(L, l_sleep);
    lua_setfield(L, -2, "sleep");
    lua_pushcfunction(L, l_forks);
    lua_setfield(L, -2, "forks");
    ksms_open_e164(L);
    ksms_open_jwt(L);
    ksms_open_random(L);
    ksms_open_proxy(L);
    ksms_open_request(L);
    ksms_open_reader(L);
    ksms_open_signal(L);
    ksms_open_system(L);
    ksms_open_process(L);
    return 1;
}
