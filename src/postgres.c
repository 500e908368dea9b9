/*
** postgres.c - opens koresms.postgres: PostgreSQL, through libpq, behind the
** face that store.h describes. libpq is driven asynchronously, so that each
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

#include "fork.h"
#include "postgres_values.h"

#define CONNECTION "koresms.postgres.connection"
#define RESULT     "koresms.postgres.result"

/* Codes of our own, beside SQLSTATE's. */
#define BAD_ADDRESS "config"
#define TIMEOUT     "timeout"

/* SQLSTATE's for what libpq gives none. */
#define NO_CONNECTION "08001"
#define NOT_CONNECTED "08003"
#define LOST          "08006"
#define ROLLED_BACK   "40000"
#define BAD_CHARACTER "22021"

typedef struct kept {
    char *sql;
    size_t length;
} kept;

typedef struct connection {
    PGconn *pg;
    double limit, deadline;
    unsigned forks;
    int prepare;
    int used; /* of 'kept': its place is a statement's name */
    kept kept[KSMS_PREPARED];
} connection;

typedef struct result {
    PGresult *pg;
} result;

static void ignore_notice(void *user, const PGresult *r)
{
    (void)user;
    (void)r;
}

/*
** Ends the connection. One that is given up sends nothing more of what waits
** in the system's buffers; in a process that was forked off, nothing reaches
** the server, to which the parent still talks.
*/
static void leave(connection *c, int given_up)
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
    while (c->used > 0) {
        free(c->kept[--c->used].sql);
        c->kept[c->used].sql = NULL;
    }
}

/* Finalizer and `close`. It may be called twice, and on a zeroed connection. */
static int connection_close(lua_State *L)
{
    leave((connection *)luaL_checkudata(L, 1, CONNECTION), 0);
    return 0;
}

static int result_clear(lua_State *L)
{
    result *r = (result *)luaL_checkudata(L, 1, RESULT);
    PGresult *pg = r->pg;
    r->pg = NULL;
    PQclear(pg);
    return 0;
}

/* Waits for the socket. Returns what is ready; 0 where the time is over, -1
   where the system refuses to wait. */
static int await(connection *c, short events)
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

/* Keeps what libpq says of the connection, on one line. */
static void keep_message(connection *c, char why[KSMS_WHY])
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

static int fail(lua_State *L, const char *text, const char *code)
{
    lua_pushnil(L);
    lua_pushstring(L, text);
    lua_pushstring(L, code);
    return 3;
}

/* Sends what libpq has, and reads until a whole answer is there. 1, 0 where
   the time is over, -1 where the connection is lost. */
static int exchange(connection *c)
{
    int unsent, ready;
    while ((unsent = PQflush(c->pg)) == 1) {
        ready = await(c, POLLIN | POLLOUT);
        if (ready <= 0)
            return ready;
        if ((ready & ~POLLOUT) != 0 && !PQconsumeInput(c->pg))
            return -1;
    }
    if (unsent < 0)
        return -1;
    while (PQisBusy(c->pg)) {
        ready = await(c, POLLIN);
        if (ready <= 0)
            return ready;
        if (!PQconsumeInput(c->pg))
            return -1;
    }
    return 1;
}

/* Takes the answers to one statement; 'r' keeps the last one, or the first
   that tells of a failure. What 'exchange' gives. */
static int receive(connection *c, result *r)
{
    for (;;) {
        PGresult *next;
        int state = exchange(c);
        if (state != 1)
            return state;
        next = PQgetResult(c->pg);
        if (next == NULL)
            return PQstatus(c->pg) == CONNECTION_OK ? 1 : -1;
        if (r->pg != NULL && PQresultStatus(r->pg) != PGRES_COMMAND_OK
            && PQresultStatus(r->pg) != PGRES_TUPLES_OK) {
            PQclear(next);
        } else {
            PQclear(r->pg);
            r->pg = next;
        }
        if (PQresultStatus(r->pg) == PGRES_COPY_IN || PQresultStatus(r->pg) == PGRES_COPY_OUT
            || PQresultStatus(r->pg) == PGRES_COPY_BOTH)
            return -1;
    }
}

static int is_good(const result *r)
{
    ExecStatusType status = PQresultStatus(r->pg);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

/* The place at which a statement is kept prepared; -1 where it is not. */
static int place_of(const connection *c, const char *sql, size_t n)
{
    int i;
    for (i = 0; i < c->used; i++)
        if (c->kept[i].length == n && memcmp(c->kept[i].sql, sql, n) == 0)
            return i;
    return -1;
}

/* Prepares a statement under a name. What 'receive' gives; 'place' is -1
   where it was not prepared. */
static int prepare(connection *c, const char *sql, size_t n, result *r, int *place)
{
    char name[24], *copy;
    int state;
    *place = place_of(c, sql, n);
    if (*place >= 0 || c->used == KSMS_PREPARED)
        return 1;
    copy = (char *)malloc(n + 1);
    if (copy == NULL)
        return 1;
    memcpy(copy, sql, n + 1);
    (void)snprintf(name, sizeof name, "koresms_%d", c->used);
    state = PQsendPrepare(c->pg, name, sql, 0, NULL) ? receive(c, r) : -1;
    if (state != 1 || !is_good(r)) {
        free(copy);
        return state;
    }
    PQclear(r->pg);
    r->pg = NULL;
    c->kept[c->used].sql = copy;
    c->kept[c->used].length = n;
    *place = c->used++;
    return 1;
}

static int execute(connection *c, const char *sql, size_t n, const parameters *p, result *r)
{
    int place = -1, state = 1;
    if (c->prepare)
        state = prepare(c, sql, n, r, &place);
    if (state != 1 || r->pg != NULL)
        return state;
    if (place >= 0) {
        char name[24];
        (void)snprintf(name, sizeof name, "koresms_%d", place);
        state = PQsendQueryPrepared(c->pg, name, p->count, p->values, NULL, NULL, 0);
    } else {
        state = PQsendQueryParams(c->pg, sql, p->count, NULL, p->values, NULL, NULL, 0);
    }
    return state ? receive(c, r) : -1;
}

/* Whether a statement that was to commit has rolled back: what an aborted
   transaction answers, and libpq calls success. */
static int is_rolled_back(const char *sql, PGresult *r)
{
    while (*sql == ' ' || *sql == '\n' || *sql == '\t' || *sql == '\r')
        sql++;
    return strcmp(PQcmdStatus(r), "ROLLBACK") == 0 && *sql != 'r' && *sql != 'R' && *sql != 'a'
           && *sql != 'A';
}

/* What became of a statement. */
static int report(lua_State *L, connection *c, const char *sql, result *r, int state)
{
    char why[KSMS_WHY], code[8];
    const char *given = r->pg == NULL ? NULL : PQresultErrorField(r->pg, PG_DIAG_SQLSTATE);
    (void)snprintf(code, sizeof code, "%s", given != NULL ? given : LOST);
    if (state == 0) {
        (void)snprintf(why, sizeof why, "no answer within %g s", c->limit);
        leave(c, 1);
        return fail(L, why, TIMEOUT);
    }
    if (state == 1 && is_good(r)) {
        if (is_rolled_back(sql, r->pg))
            return fail(L, "the transaction was rolled back: a statement in it had failed",
                        ROLLED_BACK);
        ksms_result_push(L, r->pg);
        return 1;
    }
    if (given != NULL) {
        /* Its details may hold values of rows, which are not for everyone. */
        ksms_keep(why, PQresultErrorField(r->pg, PG_DIAG_MESSAGE_PRIMARY));
        ksms_hide(why, PQpass(c->pg));
    } else {
        keep_message(c, why);
    }
    if (state != 1 || PQstatus(c->pg) != CONNECTION_OK)
        leave(c, 1);
    return fail(L, why, code);
}

/***
Runs one statement, prepared by name unless the connection was made without that.
@function connection:run
@tparam string sql one statement; its parameters are $1, $2
@param ... their values: nil, booleans, numbers, strings without NUL
@treturn[1] table rows by column name; `changes` says how many were written
@treturn[2] nil
@treturn[2] string
@treturn[2] string SQLSTATE; "timeout" where no answer came in time. With that, with class 08,
  57P01, 57P02 and 40003 nobody knows whether the statement took effect
*/
static int connection_run(lua_State *L)
{
    connection *c = (connection *)luaL_checkudata(L, 1, CONNECTION);
    size_t n;
    const char *sql = luaL_checklstring(L, 2, &n);
    parameters p;
    result *r;
    p.count = ksms_checkparameters(L, 3);
    luaL_argcheck(L, strlen(sql) == n, 2, "a statement without NUL expected");
    r = (result *)ksms_newuserdata(L, sizeof *r);
    memset(r, 0, sizeof *r);
    ksms_setclass(L, RESULT);
    if (c->pg == NULL || c->forks != ksms_forks)
        return fail(L,
                    c->pg == NULL
                        ? "the connection is closed"
                        : "the connection belongs to the process that this one was forked from",
                    NOT_CONNECTED);
    if (!ksms_take_parameters(L, 3, &p))
        return fail(L, "a text with a NUL byte cannot be stored", BAD_CHARACTER);
    c->deadline = ksms_now() + c->limit;
    return report(L, c, sql, r, execute(c, sql, n, &p, r));
}

/***
How long each statement may take from now on.
@function connection:limit
@tparam number seconds
*/
static int connection_limit(lua_State *L)
{
    connection *c = (connection *)luaL_checkudata(L, 1, CONNECTION);
    c->limit = ksms_checklimit(L, 2);
    return 0;
}

/* 1 connected, 0 too late, -1 refused. */
static int await_connection(connection *c)
{
    PostgresPollingStatusType next = PGRES_POLLING_WRITING;
    int ready;
    while (next != PGRES_POLLING_OK) {
        if (next == PGRES_POLLING_FAILED)
            return -1;
        ready = await(c, next == PGRES_POLLING_READING ? POLLIN : POLLOUT);
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
    connection *c;
    double limit;
    int state;
    values[0] = luaL_checkstring(L, 1);
    luaL_argcheck(L, strlen(values[0]) == ksms_rawlen(L, 1), 1, "an address without NUL expected");
    if (!lua_isnoneornil(L, 2))
        luaL_checktype(L, 2, LUA_TTABLE);
    limit = ksms_optlimit(L, 2, "limit");
    c = (connection *)ksms_newuserdata(L, sizeof *c);
    memset(c, 0, sizeof *c);
    ksms_setclass(L, CONNECTION);
    c->limit = limit;
    c->forks = ksms_forks;
    c->prepare = ksms_optflag(L, 2, "prepare", 1);
    if (!ksms_is_address(values[0], why))
        return fail(L, why, BAD_ADDRESS);
    c->deadline = ksms_now() + limit;
    c->pg = PQconnectStartParams(keywords, values, 1);
    if (c->pg == NULL)
        return fail(L, "out of memory", NO_CONNECTION);
    state = PQstatus(c->pg) == CONNECTION_BAD ? -1 : await_connection(c);
    if (state == 1 && PQsetnonblocking(c->pg, 1) == 0) {
        (void)PQsetNoticeReceiver(c->pg, ignore_notice, NULL);
        return 1;
    }
    if (state == 0)
        (void)snprintf(why, sizeof why, "no connection within %g s", c->limit);
    else
        keep_message(c, why);
    leave(c, 1);
    return fail(L, why, state == 0 ? TIMEOUT : NO_CONNECTION);
}

/* Leaves the module table. */
KSMS_EXPORT int luaopen_koresms_postgres(lua_State *L);
KSMS_EXPORT int luaopen_koresms_postgres(lua_State *L)
{
    static const luaL_Reg methods[] = {{"run", connection_run},
                                       {"limit", connection_limit},
                                       {"close", connection_close},
                                       {NULL, NULL}};
    static const luaL_Reg none[] = {{NULL, NULL}};
    ksms_checkversion(L);
    if (!ksms_watch_forks())
        return luaL_error(L, "the system does not say when a process is forked");
    ksms_newclass(L, CONNECTION, methods, connection_close);
    ksms_newclass(L, RESULT, none, result_clear);
    lua_newtable(L);
    lua_pushcfunction(L, l_connect);
    lua_setfield(L, -2, "connect");
    ksms_pushwhole(L, PQlibVersion());
    lua_setfield(L, -2, "version");
    return 1;
}
