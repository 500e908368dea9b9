/*
** store.h - what the two modules of databases share. Both have the same interface:
**
**   connect(where [, options]) -> connection | nil, text, code
**   connection:run(sql, ...)   -> rows | nil, text, code
**   connection:limit(seconds)
**   connection:close()
**
** Rows are an array of tables by column name; NULL is a field that is not
** there; `rows.changes` says how many rows a statement that writes has
** touched. Whole numbers come as numbers where every Lua holds them exactly,
** up to 2^53, and as their digits beyond that.
*/
#ifndef ksms_store_h
#define ksms_store_h

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "koresms.h"

/* Parameters of one statement, at most. */
#define KSMS_PARAMETERS 32
/* Statements that a connection keeps prepared. */
#define KSMS_PREPARED 48
/* Seconds that a statement may take where nothing else is said. */
#define KSMS_LIMIT      30.0
#define KSMS_LIMIT_MOST 86400.0
/* Bytes of a text about a failure. */
#define KSMS_WHY 512

#define KSMS_EXACT 9007199254740992.0

/* Seconds on a clock that is never set back; that of clock.h may count the time of a suspension,
   in which a database cannot answer. */
static inline double ksms_now(void)
{
    struct timespec t;
    if (clock_gettime(CLOCK_MONOTONIC, &t) != 0)
        return 0;
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Keeps a text that its library may change at the next call. */
static inline void ksms_keep(char why[KSMS_WHY], const char *text)
{
    (void)snprintf(why, KSMS_WHY, "%s", text == NULL ? "no reason was given" : text);
}

/* A number of seconds on the stack; raises where it is none. */
static inline double ksms_checklimit(lua_State *L, int arg)
{
    double seconds = luaL_checknumber(L, arg);
    luaL_argcheck(L, seconds > 0 && seconds <= KSMS_LIMIT_MOST, arg,
                  "seconds from 0.001 to 86400 expected");
    return seconds;
}

/* The field 'name' of the options at 'arg', which may be absent; raises where
   it has another type. */
static inline double ksms_optlimit(lua_State *L, int arg, const char *name)
{
    double seconds = KSMS_LIMIT;
    if (lua_isnoneornil(L, arg))
        return seconds;
    lua_getfield(L, arg, name);
    if (!lua_isnil(L, -1)) {
        seconds = lua_type(L, -1) == LUA_TNUMBER ? (double)lua_tonumber(L, -1) : 0;
        luaL_argcheck(L, seconds > 0 && seconds <= KSMS_LIMIT_MOST, arg,
                      "option 'limit': seconds from 0.001 to 86400 expected");
    }
    lua_pop(L, 1);
    return seconds;
}

static inline int ksms_optflag(lua_State *L, int arg, const char *name, int otherwise)
{
    if (lua_isnoneornil(L, arg))
        return otherwise;
    lua_getfield(L, arg, name);
    if (!lua_isnil(L, -1))
        otherwise = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return otherwise;
}

/* Raises where the arguments from 'first' on are no parameters; returns how
   many there are. */
static inline int ksms_checkparameters(lua_State *L, int first)
{
    int n = lua_gettop(L) - first + 1, i;
    luaL_argcheck(L, n <= KSMS_PARAMETERS, first, "too many parameters");
    for (i = first; i < first + n; i++) {
        int type = lua_type(L, i);
        luaL_argcheck(L,
                      type == LUA_TNIL || type == LUA_TBOOLEAN || type == LUA_TSTRING
                          || type == LUA_TNUMBER,
                      i, "nil, boolean, number or string expected");
        luaL_argcheck(L, type != LUA_TNUMBER || isfinite((double)lua_tonumber(L, i)), i,
                      "finite number expected");
    }
    return n;
}

/* Whether the number at 'i' is a whole one that every Lua holds exactly. */
static inline int ksms_iswhole(lua_State *L, int i, long long *whole)
{
    double value = (double)lua_tonumber(L, i);
    if (!(fabs(value) <= KSMS_EXACT) || floor(value) < value)
        return 0;
    *whole = (long long)value;
    return 1;
}

/* Pushes a whole number; beyond 2^53 its digits. */
static inline void ksms_pushwhole(lua_State *L, long long value)
{
    char digits[32];
    if (value >= -(long long)KSMS_EXACT && value <= (long long)KSMS_EXACT) {
#if LUA_VERSION_NUM >= 503
        lua_pushinteger(L, (lua_Integer)value);
#else
        lua_pushnumber(L, (lua_Number)value);
#endif
        return;
    }
    (void)snprintf(digits, sizeof digits, "%lld", value);
    lua_pushstring(L, digits);
}

#endif
