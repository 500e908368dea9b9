/*
** postgres.c - opens koresms.postgres: PostgreSQL, through libpq, behind the
** interface that store.h describes. libpq is driven asynchronously, so that each
** wait has its end; whoever has to give a statement up gives its connection
** up with it, since nobody knows what became of it. A connection's address
** may hold a password: no text that leaves this file repeats any of it.
*/
#define _DEFAULT_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "postgres.h"

static void ignore_notice(void *user, const PGresult *r)
{
    (void)user;
    (void)r;
}

void ksms_leave(ksms_connection *c, int given_up)
{
    PGconn *pg = c->pg;
    int fd = PQsocket(pg);
    c->pg = NULL;
    if (pg == NULL)
        return;
    if (fd >= 0 && c->forks != ksms_forks) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null < 0 || dup2(null, fd) < 0)
            return;        /* better a leak than a word to the server */
        (void)close(null); /* nothing was written */
    } else if (fd >= 0 && given_up) {
        struct linger now = {1, 0};
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now); /* it is a favour */
    }
    PQfinish(pg);
    c->started = 0;
    while (c->used > 0) {
        free(c->kept[--c->used].sql);
        c->kept[c->used].sql = NULL;
    }
}

/***
Ends the connection; also its finalizer. It may be called twice.
@function connection:close
*/
static int connection_close(lua_State *L)
{
    ksms_leave((ksms_connection *)luaL_checkudata(L, 1, CONNECTION), 0);
    return 0;
}

static int result_clear(lua_State *L)
{
    ksms_result *r = (ksms_result *)luaL_checkudata(L, 1, RESULT);
    PGresult *pg = r->pg;
    r->pg = NULL;
    PQclear(pg);
    return 0;
}

void ksms_keep_message(ksms_connection *c, char why[KSMS_WHY])
{
    char *p;
    size_t n;
    ksms_keep(why, PQerrorMessage(c->pg));
    for (p = why; *p != '\0'; p++)
        if (*p == '\n' || *p == '\t')
            *p = ' ';
    for (n = strlen(why); n > 0 && why[n - 1] == ' '; n--)
        why[n - 1] = '\0';
    if (n == 0)
        ksms_keep(why, "the connection was lost");
    ksms_hide(why, PQpass(c->pg));
}

int ksms_pg_fail(lua_State *L, const char *text, const char *code)
{
    lua_pushnil(L);
    lua_pushstring(L, text);
    lua_pushstring(L, code);
    return 3;
}

/***
How long each statement may take from now on.
@function connection:limit
@tparam number seconds
*/
static int connection_limit(lua_State *L)
{
    ksms_connection *c = (ksms_connection *)luaL_checkudata(L, 1, CONNECTION);
    c->limit = ksms_checklimit(L, 2);
    return 0;
}

int ksms_await(ksms_connection *c, short events)
{
    struct pollfd p;
    p.fd = PQsocket(c->pg);
    p.events = events;
    p.revents = 0;
    for (;;) {
        double left = c->deadline - ksms_now();
        int ms = left <= 0 ? 0 : left > 1e6 ? INT_MAX : (int)(left * 1000) + 1, n;
        n = poll(&p, 1, ms);
        if (n > 0)
            return p.revents;
        if (n < 0 && errno != EINTR)
            return -1;
        if (n == 0 && left <= 0)
            return 0;
    }
}

/* 1 connected, 0 too late, -1 refused. */
static int await_connection(ksms_connection *c)
{
    PostgresPollingStatusType next = PGRES_POLLING_WRITING;
    int ready;
    while (next != PGRES_POLLING_OK) {
        if (next == PGRES_POLLING_FAILED)
            return -1;
        ready = ksms_await(c, next == PGRES_POLLING_READING ? POLLIN : POLLOUT);
        if (ready <= 0)
            return ready;
        next = PQconnectPoll(c->pg);
    }
    return 1;
}

/***
Connects to a server. Only the look-up of its name may take longer than the limit.
@function connect
@tparam string where an address, `postgres://...`, or what else libpq takes
@tparam[opt] table options `prepare`: false behind a pooler that hands out another connection
  each time; `limit`: seconds that connecting, and each statement, may take (30)
@treturn[1] connection
@treturn[2] nil
@treturn[2] string
@treturn[2] string "config" where the address cannot be read, "timeout", or SQLSTATE
*/
static int l_connect(lua_State *L)
{
    static const char *const keywords[]
        = {"dbname", "fallback_application_name", "client_encoding", NULL};
    const char *values[] = {NULL, "koresms", "UTF8", NULL};
    char why[KSMS_WHY];
    ksms_connection *c;
    double limit;
    int state;
    values[0] = luaL_checkstring(L, 1);
    luaL_argcheck(L, strlen(values[0]) == ksms_rawlen(L, 1), 1, "an address without NUL expected");
    if (!lua_isnoneornil(L, 2))
        luaL_checktype(L, 2, LUA_TTABLE);
    limit = ksms_optlimit(L, 2, "limit");
    c = (ksms_connection *)ksms_newuserdata(L, sizeof *c);
    memset(c, 0, sizeof *c);
    ksms_setclass(L, CONNECTION);
    c->limit = limit;
    c->forks = ksms_forks;
    c->prepare = ksms_optflag(L, 2, "prepare", 1);
    if (!ksms_is_address(values[0], why))
        return ksms_pg_fail(L, why, BAD_ADDRESS);
    c->deadline = ksms_now() + limit;
    c->pg = PQconnectStartParams(keywords, values, 1);
    if (c->pg == NULL)
        return ksms_pg_fail(L, "out of memory", NO_CONNECTION);
    state = PQstatus(c->pg) == CONNECTION_BAD ? -1 : await_connection(c);
    if (state == 1 && PQsetnonblocking(c->pg, 1) == 0) {
        (void)PQsetNoticeReceiver(c->pg, ignore_notice, NULL);
        return 1;
    }
    if (state == 0)
        (void)snprintf(why, sizeof why, "no connection within %g s", c->limit);
    else
        ksms_keep_message(c, why);
    ksms_leave(c, 1);
    return ksms_pg_fail(L, why, state == 0 ? TIMEOUT : NO_CONNECTION);
}

/* Leaves the module table. */
KSMS_EXPORT int luaopen_koresms_postgres(lua_State *L);
KSMS_EXPORT int luaopen_koresms_postgres(lua_State *L)
{
    static const luaL_Reg methods[]
        = {{"run", ksms_connection_run},       {"start", ksms_connection_start},
           {"finish", ksms_connection_finish}, {"limit", connection_limit},
           {"close", connection_close},        {NULL, NULL}};
    static const luaL_Reg none[] = {{NULL, NULL}};
    ksms_open_module(L, luaopen_koresms_postgres);
    ksms_newclass(L, CONNECTION, methods, connection_close);
    ksms_newclass(L, RESULT, none, result_clear);
    lua_newtable(L);
    lua_pushcfunction(L, l_connect);
    lua_setfield(L, -2, "connect");
    ksms_pushwhole(L, PQlibVersion());
    lua_setfield(L, -2, "version");
    return 1;
}
